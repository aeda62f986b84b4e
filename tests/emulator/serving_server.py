"""A model server for the tests of serving: it does what it is told. Standard library only.

`TURNS` is a URL that it asks before it listens. `MODE` is how it starts; {"do": ...} is what a request makes of it.
"""

import json
import os
import signal
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

released = threading.Event()
sick = set()


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/release":
            released.set()
        good = self.path not in sick and self.path in ("/alive", "/release", os.environ["AIP_HEALTH_ROUTE"])
        self.reply(200 if good and os.environ.get("MODE") != "sick" else 503, {})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        do = request.get("do")
        if do == "die":
            os._exit(int(request["code"]))
        if do == "hold":
            print("held", flush=True)
            released.wait()
        if do == "say":
            print("\n".join(request["lines"]), flush=True)
        if do == "sicken":
            sick.add(request["path"])
        if do == "heal":
            sick.clear()
        seen = {"pid": os.getpid(), "host": os.uname().nodename, "env": dict(os.environ), "argv": sys.argv[1:]}
        self.reply(200, {"predictions": [seen]})

    def reply(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
mode = os.environ.get("MODE")
if turns := os.environ.get("TURNS"):
    urllib.request.urlopen(turns).read()
if mode == "exit":
    print("\n".join([*(f"line {number}" for number in range(30)), "model.joblib is not there"]), flush=True)
    sys.exit(1)
port = 0 if mode == "own port" else int(os.environ["AIP_HTTP_PORT"])
server = ThreadingHTTPServer((os.environ.get("CPR_SERVE_HOST", "0.0.0.0"), port), Server)
print("serving", flush=True)
server.serve_forever()
