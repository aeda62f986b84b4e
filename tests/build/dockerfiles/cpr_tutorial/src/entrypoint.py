import os

from google.cloud.aiplatform import prediction

from handler import CprHandler
from predictor import CprPredictor

if __name__ == "__main__":
    prediction.model_server.ModelServer(CprHandler(os.environ["AIP_STORAGE_URI"], predictor=CprPredictor)).start()
