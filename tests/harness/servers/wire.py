"""A model server small enough to be bent: each fault is one overridden method."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == os.environ["AIP_HEALTH_ROUTE"]:
            self.health()
        elif self.path == os.environ["AIP_PREDICT_ROUTE"]:
            self.fail(405, "POST only")
        else:
            self.fail(404, f"no route {self.path}")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == os.environ["AIP_PREDICT_ROUTE"]:
            self.predict(body)
        else:
            self.fail(405, "GET only")

    def health(self):
        self.reply(200, {})

    def predict(self, body):
        try:
            request = json.loads(body)
        except ValueError as error:
            self.fail(400, f"no JSON: {error}")
            return
        self.answer(request)

    def answer(self, request):
        self.reply(200, {"predictions": [sum(row) for row in request["instances"]]})

    def fail(self, status, message):
        self.reply(status, {"error": {"code": status, "message": message}})

    def reply(self, status, value, content_type="application/json"):
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        print(f"{self.command} {self.path}", file=sys.stderr, flush=True)


def serve(server=Server):
    # As the first process of a container nothing would end it otherwise.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    port = int(os.environ["AIP_HTTP_PORT"])
    print(f"serving on {port}", flush=True)
    host = os.environ.get("CPR_SERVE_HOST", "0.0.0.0")
    ThreadingHTTPServer((host, port), server).serve_forever()
