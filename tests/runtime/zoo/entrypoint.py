import logging
import os

from answers import Doubles

from cpr_kit import PredictionHandler
from cpr_kit.runtime.server import ModelServer

if __name__ == "__main__":
    if "OWN_LOG" in os.environ:
        logging.basicConfig(level="INFO", format="own: %(message)s")
    server = ModelServer(PredictionHandler(os.environ["AIP_STORAGE_URI"], predictor=Doubles))
    logging.getLogger("entrypoint").info("%d %s %s", server.http_port, server.predict_route, server.health_route)
    server.start()
