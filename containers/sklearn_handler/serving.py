# CSV in, JSON out: the serializer reads a request, the predictor names the classes, the rest is the kit's.
import numpy as np

from cpr_kit import DefaultSerializer, PredictionHandler, RequestError, SklearnPredictor


class CsvSerializer(DefaultSerializer):
    @staticmethod
    def deserialize(data, content_type):
        try:
            return {"instances": np.loadtxt(data.decode().splitlines(), delimiter=",", ndmin=2).tolist()}
        except ValueError as error:
            raise RequestError(f"the body is no CSV of numbers: {error}") from error


class CsvHandler(PredictionHandler):
    serializer = CsvSerializer


class IrisPredictor(SklearnPredictor):
    labels = ("setosa", "versicolor", "virginica")

    def postprocess(self, classes):
        return {"predictions": [self.labels[number] for number in classes]}
