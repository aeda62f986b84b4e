"""Google Cloud Storage's JSON API over a real socket, as far as a download needs it, with faults on demand."""

import base64
import dataclasses
import hashlib
import http.server
import json
import socket
import ssl
import threading
import time
import urllib.parse

import google_crc32c


@dataclasses.dataclass
class Stored:
    content: bytes
    generation: int = 1
    composite: bool = False
    without_checksum: bool = False
    gzipped: bool = False

    def metadata(self, name):
        crc = base64.b64encode(google_crc32c.Checksum(self.content).digest()).decode()
        md5 = base64.b64encode(hashlib.md5(self.content).digest()).decode()
        item = {"name": name, "size": str(len(self.content)), "generation": str(self.generation)}
        if not self.without_checksum:
            item["crc32c"] = crc
            if not self.composite:
                item["md5Hash"] = md5
        return {**item, "contentEncoding": "gzip"} if self.gzipped else item


@dataclasses.dataclass
class Asked:
    """A request. `start` is where its range begins; `name` is that of the object whose bytes it asks for, or None."""

    path: str
    name: str | None
    start: int | None
    end: int | None
    headers: dict
    connection: tuple


@dataclasses.dataclass(kw_only=True)
class Fault:
    """What goes wrong with one answer: an error status, or an end, a standstill or a flipped bit after `after` bytes."""

    status: int | None = None
    headers: tuple = ()
    after: int = 0
    kind: str = "end"  # end, reset, stand, flip, whole


class BucketServer:
    def __init__(self, **objects):
        self.objects = {name: each if isinstance(each, Stored) else Stored(each) for name, each in objects.items()}
        self.asked = []
        self.page = 1000
        self.fault = lambda asked: None
        self.let_go = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self.port = self._server.server_port
        self.environ = {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{self.port}"}

    def secure(self, certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.environ = {"STORAGE_EMULATOR_HOST": f"https://localhost:{self.port}"}

    def downloads(self, name=None):
        return [asked for asked in self.asked if asked.name and name in (None, asked.name)]

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.let_go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args):
        pass

    def do_GET(self):
        bucket = self.server.owner
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        _, _, name = url.path.partition("/o/")
        name = urllib.parse.unquote(name)
        media = url.path.startswith("/download/")
        start, end = self.range()
        asked = Asked(self.path, name if media else None, start, end, dict(self.headers), self.client_address)
        bucket.asked.append(asked)
        fault = bucket.fault(asked)
        if fault and fault.status:
            self.send(fault.status, b"{}", fault.headers)
        elif url.path.endswith("/token"):
            self.send(200, b"{}")
        elif not name:
            self.list(bucket, query)
        elif name not in bucket.objects:
            self.send(404, b"Not Found")
        elif media:
            self.media(bucket.objects[name], asked, query, fault)
        else:
            self.send(200, json.dumps(bucket.objects[name].metadata(name)).encode())

    def range(self):
        text = self.headers.get("Range")
        return [int(number) for number in text.removeprefix("bytes=").split("-")] if text else (None, None)

    def list(self, bucket, query):
        names = sorted(name for name in bucket.objects if name.startswith(query.get("prefix", "")))
        at = int(query.get("pageToken", 0))
        page = {"items": [bucket.objects[name].metadata(name) for name in names[at : at + bucket.page]]}
        if at + bucket.page < len(names):
            page["nextPageToken"] = str(at + bucket.page)
        self.send(200, json.dumps(page).encode())

    def media(self, stored, asked, query, fault):
        if "ifGenerationMatch" in query and query["ifGenerationMatch"] != str(stored.generation):
            self.send(412, b"{}")
            return
        if stored.gzipped:
            assert self.headers["Accept-Encoding"] == "gzip"
        content, status, headers = stored.content, 200, []
        if asked.start is not None and not (fault and fault.kind == "whole"):
            content, status = content[asked.start : asked.end + 1], 206
            headers = [("Content-Range", f"bytes {asked.start}-{asked.start + len(content) - 1}/{len(stored.content)}")]
        self.send(status, content, headers, fault)

    def send(self, status, body, headers=(), fault=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault is None or fault.kind == "whole":
            self.wfile.write(body)
            return
        if fault.kind == "flip":
            at = min(fault.after, len(body) - 1)
            self.wfile.write(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
            return
        self.wfile.write(body[: fault.after])
        self.wfile.flush()
        if fault.kind == "stand":
            self.server.owner.let_go.wait(60)
        if fault.kind == "reset":
            time.sleep(0.05)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close_connection = True
        self.connection.close()
