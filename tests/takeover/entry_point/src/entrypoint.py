import os

from google.cloud.aiplatform import prediction
from handler import CprHandler
from predictor import CprPredictor


def main():
    model_server = prediction.model_server.ModelServer(
        CprHandler(os.environ.get("AIP_STORAGE_URI"), predictor=CprPredictor)
    )
    model_server.start()


if __name__ == "__main__":
    main()
