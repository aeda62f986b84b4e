import base64
import os

from wire import Server, serve


class Reporting(Server):
    """What arrived, and the environment it arrived in."""

    def predict(self, body):
        report = {
            "environment": dict(os.environ),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": base64.b64encode(body).decode(),
        }
        self.reply(200, {"predictions": [report], "metadata": "seen"})


serve(Reporting)
