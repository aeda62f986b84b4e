"""A model server that knows nothing of cpr_kit: it reads whole bodies as they are. JSON gets predictions."""

import hashlib
import json
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200 if self.path == os.environ["AIP_HEALTH_ROUTE"] else 404, "text/plain", b"ok")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        if kind == "application/json":
            sums = [sum(row) for row in json.loads(body)["instances"]]
            self.answer(200, "application/json", json.dumps({"predictions": sums}).encode())
        else:
            self.answer(200, "text/plain", f"{kind} {len(body)} {hashlib.sha256(body).hexdigest()}".encode())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


# As the first process of a container nothing would end it otherwise.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
ThreadingHTTPServer(("0.0.0.0", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
