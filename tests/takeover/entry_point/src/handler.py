import csv
import json
from io import StringIO

from fastapi import Response
from google.cloud.aiplatform.prediction.handler import PredictionHandler


class CprHandler(PredictionHandler):
    """CSV in, JSON out."""

    async def handle(self, request):
        instances = self._rows(await request.body())
        results = self._predictor.postprocess(
            self._predictor.predict(self._predictor.preprocess({"instances": instances}))
        )
        return Response(content=json.dumps(results))

    def _rows(self, data):
        rows = csv.reader(StringIO(data.decode("utf-8")), quoting=csv.QUOTE_NONNUMERIC)
        return list(rows)
