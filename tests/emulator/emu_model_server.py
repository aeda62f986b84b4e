"""A model server for the tests of the data plane: it does what a request asks for. Standard library only.

{"do": ...} is the first instance, or the body itself. `url` is a gate of the test's: asking it, the server waits.
"""

import base64
import http.server
import json
import os
import signal
import socket
import time
import urllib.parse
import urllib.request

BORN = str(time.time_ns())
ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.reply(200 if self.path == os.environ["AIP_HEALTH_ROUTE"] else 404, b"{}")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            content = json.loads(body)
            order = content if "do" in content else content["instances"][0]
            act = getattr(self, order["do"])
        except (ValueError, KeyError, TypeError, IndexError):
            kind = self.headers.get("Content-Type") or ""
            if kind.startswith("application/json"):
                self.predictions([body.decode()])
            else:
                self.reply(200, body[::-1], kind)
            return
        act(order, body)

    # What a request may ask for

    def answer(self, order, _):
        """`text` with `status`."""
        self.reply(order.get("status", 200), order["text"].encode(), order.get("type", "application/json"))

    def show(self, _, body):
        """What came: the body's text stands in it, so that 1 and 1.0 differ."""
        seen = {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
        self.predictions([{**seen, "body": body.decode(), "b64": base64.b64encode(body).decode()}])

    def who(self, *_):
        self.predictions([{"id": os.environ["AIP_DEPLOYED_MODEL_ID"], "pid": os.getpid(), "born": BORN}])

    def env(self, *_):
        self.predictions([dict(os.environ)])

    def artifact(self, order, _):
        """What the object `name` of the model's folder says, as a container reads gs://."""
        bucket, _, folder = os.environ["AIP_STORAGE_URI"].removeprefix("gs://").partition("/")
        name = urllib.parse.quote(f"{folder}/{order['name']}", safe="")
        host = os.environ["STORAGE_EMULATOR_HOST"]
        self.predictions([ask(f"{host}/storage/v1/b/{bucket}/o/{name}?alt=media").read().decode()])

    def big(self, order, _):
        self.predictions(["x" * int(order["size"])])

    def gate(self, order, _):
        text = ask(order["url"]).read().decode()
        self.predictions([text])

    def never(self, order, _):
        """No answer, until the caller has left; then it says so at the gate."""
        self.wait_for_the_end()
        ask(order["url"]).read()

    def reset(self, *_):
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    def hangup(self, *_):
        """The connection ends in the middle of an answer."""
        self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"pre')
        self.close()

    def die(self, *_):
        os._exit(1)

    def stream(self, order, _):
        """`one`, and `two` once the gate is open; with `gone`, it waits for the caller to leave, and says so there."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(b"one\n")
        if order.get("gone"):
            self.wait_for_the_end()
            ask(order["url"]).read()
            return
        ask(order["url"]).read()
        self.chunk(b"two\n")
        self.chunk(b"")

    # How

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def wait_for_the_end(self):
        self.close_connection = True
        try:
            while self.connection.recv(1024):
                pass
        except OSError:
            pass

    def close(self):
        self.close_connection = True
        self.connection.close()

    def predictions(self, values):
        self.reply(200, json.dumps({"predictions": values}).encode())

    def reply(self, status, content, kind="application/json"):
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Echo", self.headers.get("X-Ask", ""))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


class Listener(http.server.ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
host = os.environ.get("CPR_SERVE_HOST", "0.0.0.0")
Listener((host, int(os.environ["AIP_HTTP_PORT"])), Server).serve_forever()
