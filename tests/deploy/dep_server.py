"""A model server for the tests of deployments: its image's code says what it is good for. Standard library only."""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

kind = Path(__file__).with_name("kind.txt").read_text()


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply(200, {})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if kind == "crashing":
            os._exit(3)
        if kind == "slow":
            time.sleep(0.8)
        if kind == "failing":
            self.reply(500, {"error": "no"})
            return
        rows = [sum(row) + (kind == "wrong") for row in request["instances"]]
        self.reply(200, {"predictions": rows})

    def reply(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
if kind == "broken":
    print("model.joblib is not there", flush=True)
    sys.exit(1)
server = ThreadingHTTPServer((os.environ.get("CPR_SERVE_HOST", "0.0.0.0"), int(os.environ["AIP_HTTP_PORT"])), Server)
print(f"serving {kind}", flush=True)
server.serve_forever()
