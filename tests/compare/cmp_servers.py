"""Model servers for the comparisons: each answers a row as its function says, and counts what it was asked."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """`answer(instance)` is a prediction; an int that it raises with `Status` is the whole answer's status."""

    def __init__(self, answer):
        self.seen = []
        self.kinds = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.seen.append(body)
                server.kinds.append(self.headers["Content-Type"])
                try:
                    status, content = 200, {"predictions": [answer(each) for each in json.loads(body)["instances"]]}
                except Status as error:
                    status, content = error.args[0], {"error": {"message": error.args[1]}}
                except HangUp:
                    self.close_connection = True
                    return
                except Raw as error:
                    self.send_response(200)
                    for name, value in error.args[1].items():
                        self.send_header(name, value)
                    self.send_header("Connection", "close")  # or the next request may go out on it as it closes
                    self.end_headers()
                    self.wfile.write(error.args[0])
                    return
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *words):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"


class Status(Exception):
    pass


class Raw(Exception):
    """The whole answer: its body as it is, and its headers."""


class HangUp(Exception):
    pass


@contextlib.contextmanager
def serving(*answers):
    """A running Server for each function."""
    servers = [Server(answer) for answer in answers]
    threads = [threading.Thread(target=server.http.serve_forever, args=(0.02,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield servers
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.http.shutdown()
            thread.join()
            server.http.server_close()
