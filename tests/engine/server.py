"""A tiny server for the engines' tests: it answers with what it sees. Standard library only."""

import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        try:
            answer = getattr(self, url.path.strip("/") or "see")(**dict(parse_qsl(url.query)))
            status = 200
        except OSError as error:
            answer, status = str(error), 500
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def see(self):
        return {"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid()}

    def read(self, path):
        return Path(path).read_text()

    def write(self, path):
        return Path(path).write_text("written")

    def spawn(self):
        return subprocess.Popen(["sleep", "1000"]).pid

    def die(self, code):
        os._exit(int(code))

    def log_message(self, *words):
        pass


def stop(*_):
    print("asked to stop", flush=True)
    os._exit(0)


signal.signal(signal.SIGTERM, signal.SIG_IGN if os.environ.get("STUBBORN") else stop)
host = os.environ.get("CPR_SERVE_HOST", "0.0.0.0")
server = HTTPServer((host, int(os.environ.get("AIP_HTTP_PORT", "8080"))), Server)
print("out: listening", flush=True)
print("err: listening", file=sys.stderr, flush=True)
print("out: again", flush=True)
server.serve_forever()
