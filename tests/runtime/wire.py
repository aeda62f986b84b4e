"""A client that says exactly the bytes it is told, and reads what comes back."""

import json
import select
import socket


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:200]!r}"


class Wire:
    """One connection. `answer` reads one response, interim ones aside, which are counted."""

    def __init__(self, port, *, buffer=None):
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = self.socket.makefile("rb")
        self.interim = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.read.close()
        self.socket.close()

    def send(self, *parts):
        for part in parts:
            self.socket.sendall(part)
        return self

    def answered(self):
        """Whether something has come that is not read yet."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def answer(self):
        while True:
            line = self.read.readline()
            if not line:
                raise EOFError("the connection closed without an answer")
            status = int(line.split()[1])
            headers = {}
            while (line := self.read.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                headers[name.decode().lower()] = value.strip().decode("latin-1")
            if status >= 200:
                return Answer(status, headers, self._body(headers))
            self.interim += 1

    def _body(self, headers):
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.read.readline(), 16):
                body += self.read.read(size)
                self.read.readline()
            self.read.readline()
            return body
        return self.read.read(int(headers.get("content-length", 0)))

    def ended(self):
        """Whether the server closes now without another byte; a reset is no such end."""
        return self.read.read(1) == b""


def ask(port, *parts):
    """The answer to these bytes on a connection of their own."""
    with Wire(port) as wire:
        return wire.send(*parts).answer()


def request(method="POST", target="/predict", body=b"", *, version="1.1", **headers):
    """The bytes of a request; `Content_Type="..."` is a header, and None leaves one out."""
    fields = {"Host": "model", "Content-Length": str(len(body)) if body or method == "POST" else None}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {target} HTTP/{version}", *lines, "", ""]).encode("latin-1") + body


def predict(body, **headers):
    return request(body=body, **{"Content_Type": "application/json", **headers})


def chunked(*pieces, trailers=b""):
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"
