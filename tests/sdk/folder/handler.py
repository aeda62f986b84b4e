import json

from fastapi import HTTPException, Request, Response
from google.cloud.aiplatform.prediction import handler_utils
from google.cloud.aiplatform.prediction.handler import Handler, PredictionHandler
from google.cloud.aiplatform.prediction.serializer import DefaultSerializer


class Lines(PredictionHandler):
    """Numbers, one a line."""

    async def handle(self, request: Request) -> Response:
        values = [float(line) for line in (await request.body()).decode().split()]
        if not values:
            raise HTTPException(status_code=400, detail="no numbers")
        return Response(content=json.dumps(self._predictor.predict({"instances": values})))


class Negotiates(Handler):
    """Reads and writes headers as upstream's own handler does."""

    def __init__(self, artifacts_uri, predictor=None):
        super().__init__(artifacts_uri, predictor)
        self._predictor = predictor()
        self._predictor.load(artifacts_uri)

    async def handle(self, request):
        content_type = handler_utils.get_content_type_from_headers(request.headers)
        value = DefaultSerializer.deserialize(await request.body(), content_type)
        accept = handler_utils.get_accept_from_headers(request.headers)
        return Response(DefaultSerializer.serialize(self._predictor.predict(value), accept), media_type=accept)
