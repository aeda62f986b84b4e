"""As samples of 2022 have it."""

import os

from google.cloud.aiplatform import prediction
from handler import Lines
from predictor import Doubles


def main():
    server = prediction.model_server.ModelServer(Lines(os.environ["AIP_STORAGE_URI"], predictor=Doubles))
    server.start()


if __name__ == "__main__":
    main()
