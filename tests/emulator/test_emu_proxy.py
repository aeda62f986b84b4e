"""The proxy between real clients and real servers: requests, curl, gRPC, bare sockets."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
import requests
import uvicorn
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cpr_kit.emulator.proxy import certificates, hello, hosts
from cpr_kit.emulator.proxy.certificates import Authority, ServerCertificate, authority
from cpr_kit.emulator.proxy.connect import Proxy
from cpr_kit.emulator.proxy.environment import Files, shell_lines, unset_lines, variables
from cpr_kit.emulator.proxy.outside import Outside
from cpr_kit.emulator.proxy.ways import Ports

HOST = "us-central1-aiplatform.googleapis.com"
DEDICATED = "987.us-central1-123456789012.prediction.vertexai.goog"


# ---- reading a hello


def client_hello(alpn=(), server_name=None):
    """What OpenSSL really sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if server_name is None:
        context.check_hostname = False
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def in_records(data, size):
    """The same handshake message in TLS records of `size` bytes."""
    body = data[5:]
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(data[:3] + len(chunk).to_bytes(2, "big") + chunk for chunk in chunks)


NAMES = st.lists(st.text("abcdefgh0123456789/.-", min_size=1, max_size=20), max_size=6)
SERVERS = st.none() | st.from_regex(r"[a-z0-9]{1,20}(\.[a-z][a-z0-9]{0,12}){1,3}", fullmatch=True)


@given(NAMES, SERVERS)
@settings(max_examples=60, deadline=None)
def test_a_hello_says_its_protocols_and_server(alpn, server):
    said = hello.read(client_hello(alpn, server))
    assert said == hello.Hello(tuple(alpn), server)


@given(st.integers(1, 600), st.integers(0, 5000))
@settings(max_examples=60, deadline=None)
def test_a_hello_may_come_in_many_records_and_pieces(size, cut):
    data = in_records(client_hello(["h2"], HOST), size)
    cut %= len(data)
    assert hello.read(data[:cut]) is None
    assert hello.read(data).alpn == ("h2",)
    assert hello.read(data + b"more").alpn == ("h2",)


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda data: b"\x16\x03\x01" + data))
@example(b"GET / HTTP/1.1\r\n\r\n")
@example(b"\x16\x03\x01\x00\x00")
@settings(deadline=None)
def test_garbage_is_refused_or_waited_for(data):
    with contextlib.suppress(hello.NoHelloError):
        assert hello.read(data) is None or data[:1] == b"\x16"


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_hello_never_breaks_the_reader(data):
    sound = bytearray(client_hello(["h2", "http/1.1"], HOST))
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(hello.NoHelloError):
        hello.read(bytes(sound))


@pytest.mark.parametrize(
    "data",
    [
        b"\x15\x03\x03\x00\x02\x02\x28",  # an alert
        b"\x16\x02\x00\x00\x10",  # no version of TLS
        b"\x16\x03\x01\xff\xff",  # a record longer than TLS allows
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",  # a message of 16 MB
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",  # it ends before its fields
    ],
)
def test_what_can_be_no_hello_is_refused_at_once(data):
    with pytest.raises(hello.NoHelloError):
        hello.read(data)


def test_a_hello_in_endless_small_records_is_refused():
    record = b"\x16\x03\x01\x00\x05\x01\x00\xff\xf0\x03"
    with pytest.raises(hello.NoHelloError, match="more than"):
        hello.read(record + b"\x16\x03\x01\x00\x01\x00" * 11000)


# ---- names


@pytest.mark.parametrize(
    "host",
    [HOST, "storage.googleapis.com", "aiplatform.us.rep.googleapis.com", "STORAGE.googleapis.com.", DEDICATED,
     "7-us-central1-abc.prediction.p.vertexai.goog", "1.aiplatform.googleapis.com", "metadata.google.internal"],
)  # fmt: skip
def test_googles_names_are_answered_here(host):
    assert hosts.is_google(host)


@pytest.mark.parametrize(
    "host",
    ["example.com", "googleapis.com", "evilgoogleapis.com", "googleapis.com.evil.org", "vertexai.goog", "google.com",
     ".googleapis.com", "127.0.0.1", "pypi.org"],
)  # fmt: skip
def test_other_names_are_not(host):
    assert not hosts.is_google(host)


# ---- servers and the proxy, in one loop in a thread


async def what_came(request):
    body = await request.body()
    facts = {"server": request.app.state.name, "method": request.method, "host": request.headers["host"],
             "path": request.url.path, "query": request.url.query, "size": len(body),
             "sha": hashlib.sha256(body).hexdigest(), "headers": dict(request.headers)}  # fmt: skip
    return JSONResponse(facts)


async def much(request):
    """As many bytes as asked for."""
    size = int(request.query_params["size"])

    async def chunks():
        for at in range(0, size, 2**18):
            yield bytes([at % 251]) * min(2**18, size - at)

    return StreamingResponse(chunks())


async def echo(request):
    return Response(await request.body())


async def waits(request):
    request.app.state.waiting.set()
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    request.app.state.left.set()


class Servers:
    """An HTTP server with and without TLS, a gRPC server, and the proxy before them."""

    def __init__(self, **ways):
        self._ways = ways
        self.lines = []
        self.apps = {}

    async def start(self):
        self.certificate = ServerCertificate()
        self._tasks, self._servers = [], []
        plain = await self._http("plain", None)
        rest = await self._http("rest", self.certificate.context)
        self.grpc = grpc.aio.server()
        self.grpc.add_generic_rpc_handlers((Echo(),))
        grpc_port = self.grpc.add_secure_port("127.0.0.1:0", self.certificate.grpc_credentials())
        await self.grpc.start()
        self.ports = Ports(plain=plain, rest=rest, grpc=grpc_port)
        self.proxy = Proxy(ports=self.ports, certificate=self.certificate, report=self.lines.append, **self._ways)
        await self.proxy.start()

    async def _http(self, name, context):
        app = Starlette(
            routes=[
                Route("/much", much), Route("/echo", echo, methods=["POST"]), Route("/waits", waits),
                Route("/{path:path}", what_came, methods=["GET", "POST", "PUT"]),
            ]
        )  # fmt: skip
        app.state.name, app.state.waiting, app.state.left = name, threading.Event(), threading.Event()
        self.apps[name] = app.state
        config = uvicorn.Config(app, log_level="warning", lifespan="off")
        config.load()
        config.ssl = context
        # asyncio sets TCP_NODELAY only where the protocol is named.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        self._servers.append(server)
        self._tasks.append(asyncio.ensure_future(server.serve(sockets=[sock])))
        return sock.getsockname()[1]

    async def stop(self):
        await self.proxy.stop()
        for server in self._servers:
            server.should_exit = True
        await self.grpc.stop(0)
        await asyncio.gather(*self._tasks)


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        async def answer(request, context):
            return details.method.encode() + b" " + request

        async def stream(request, context):
            for number in range(int(request)):
                yield str(number).encode() * 1000

        if details.method.endswith("/Stream"):
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.contextmanager
def running(new_loop=asyncio.new_event_loop, **ways):
    servers, loop = Servers(**ways), new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    try:
        call(servers.start())
        servers.call = call
        yield servers
    finally:
        call(servers.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def servers(request):
    with running({"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[request.param]) as servers:
        yield servers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("emulator")


@pytest.fixture(scope="module")
def files(folder):
    return Files.write(folder, "my-proj")


@pytest.fixture
def environ(servers, files):
    named = variables(proxy_url=servers.proxy.url, plain_url=f"http://127.0.0.1:{servers.ports.plain}", files=files)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, **named}


@pytest.fixture
def session(servers, environ, monkeypatch):
    """A requests.Session that knows the environment alone."""
    for name in (*environ, "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with requests.Session() as session:
        yield session


@pytest.fixture
def until():
    def wait(condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.01)

    return wait


def idle(servers):
    return not servers.proxy.connections


# ---- real clients


@pytest.mark.parametrize("host", [HOST, "storage.googleapis.com", DEDICATED, "aiplatform.eu.rep.googleapis.com",
                                  "e-us-1.prediction.p.vertexai.goog", "oauth2.mtls.googleapis.com"])  # fmt: skip
def test_requests_reach_the_rest_server_by_https(session, host):
    answer = session.post(f"https://{host}/v1/x:predict?a=1", data=b"body").json()
    assert (answer["server"], answer["host"], answer["path"]) == ("rest", host, "/v1/x:predict")
    assert (answer["query"], answer["size"], answer["method"]) == ("a=1", 4, "POST")


@pytest.mark.parametrize("host", ["55.aiplatform.googleapis.com", "metadata.google.internal"])
def test_plain_http_of_googles_names_reaches_the_plain_server(session, host):
    for _ in range(2):
        answer = session.post(f"http://{host}/v1/models/1:predict?b=2", json={"instances": []}).json()
        assert (answer["server"], answer["host"], answer["path"]) == ("plain", host, "/v1/models/1:predict")
        assert answer["query"] == "b=2" and answer["headers"]["content-type"] == "application/json"
        assert not {"proxy-connection", "proxy-authorization"} & set(answer["headers"])


def test_what_means_the_emulator_itself_goes_past_the_proxy_or_through_it(servers, session):
    for port in (servers.ports.plain, servers.proxy.port):
        answer = session.get(f"http://127.0.0.1:{port}/v1/self").json()
        assert (answer["server"], answer["path"], answer["host"]) == ("plain", "/v1/self", f"127.0.0.1:{port}")


def test_tls_without_connect_is_told_apart_as_well(servers, session):
    answer = session.get(f"https://localhost:{servers.proxy.port}/v1/direct").json()
    assert (answer["server"], answer["host"]) == ("rest", f"localhost:{servers.proxy.port}")


@pytest.mark.parametrize("flags", [[], ["--http1.1"], ["--http2"]])
def test_curl_reaches_the_rest_server(environ, flags):
    command = ["curl", "-sS", *flags, "-d", "{}", f"https://{HOST}/v1/curl"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
    assert json.loads(done.stdout)["server"] == "rest", done.stderr


def channel(servers, host, roots=None):
    credentials = grpc.ssl_channel_credentials(roots or authority().certificate)
    return grpc.secure_channel(f"{host}:443", credentials, options=[("grpc.http_proxy", servers.proxy.url)])


@pytest.mark.parametrize("host", [HOST, DEDICATED, f"9{DEDICATED}", "77.europe-west4-1.prediction.vertexai.goog"])
def test_grpc_reaches_the_grpc_server_by_any_name(servers, host):
    with channel(servers, host) as grpc_channel:
        call = grpc_channel.unary_unary("/a.B/Call")
        assert call(b"hello", timeout=20) == b"/a.B/Call hello"
        stream = grpc_channel.unary_stream("/a.B/Stream")
        assert [len(part) for part in stream(b"12", timeout=20)] == [1000] * 10 + [2000] * 2


def test_grpc_trusts_only_this_authority(servers):
    with channel(servers, HOST, Authority().certificate) as grpc_channel, pytest.raises(grpc.RpcError) as caught:
        grpc_channel.unary_unary("/a.B/Call")(b"", timeout=5)
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


PROGRAM = """
import grpc, json, requests, urllib.request
channel = grpc.secure_channel("{host}:443", grpc.ssl_channel_credentials())
said = [channel.unary_unary("/a.B/Call")(b"x", timeout=20).decode()]
channel.close()
said.append(requests.get("https://{host}/v1/x").json()["server"])
said.append(json.load(urllib.request.urlopen("https://{host}/v1/x"))["server"])
said.append(requests.get("http://5.aiplatform.googleapis.com/v1/x").json()["server"])
print(json.dumps(said))
"""


@pytest.mark.parametrize("host", [HOST, DEDICATED])
def test_a_program_needs_nothing_but_the_environment(environ, host):
    command = [sys.executable, "-c", PROGRAM.replace("{host}", host)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["/a.B/Call x", "rest", "rest", "plain"]


def test_the_lines_for_a_shell_set_a_shell(environ, files):
    lines = shell_lines({**variables(proxy_url="http://127.0.0.1:1", plain_url="http://127.0.0.1:2", files=files),
                         "ODD": "a'b $c\n\"d"})  # fmt: skip
    script = f'no_proxy="*"; export no_proxy\n{lines}\nprintf "%s|%s|%s" "$no_proxy" "$ODD" "$https_proxy"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "localhost,127.0.0.1,::1|a'b $c\n\"d|http://127.0.0.1:1"
    names = set(re.findall(r"^export (\w+)=", lines, re.M)) - {"ODD"}
    script = f"{lines}\n{unset_lines()}\nenv"
    said = subprocess.run(["sh", "-c", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert not [line for line in said.stdout.splitlines() if line.partition("=")[0] in names]


def test_a_shell_gets_back_what_it_had(files):
    def lines(port):
        return shell_lines(variables(proxy_url=f"http://127.0.0.1:{port}", plain_url="http://127.0.0.1:2", files=files))

    mine = {"PATH": os.environ["PATH"], "https_proxy": "http://it's $mine `x`\n\"y\"", "GOOGLE_APPLICATION_CREDENTIALS": "",
            "SSL_CERT_FILE": "/mine.pem"}  # fmt: skip
    dump = f"{shlex.quote(sys.executable)} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    script = "\n".join(
        ["set -eu", dump, unset_lines(), dump, lines(1), lines(3), dump, unset_lines(), dump, unset_lines()]
    )
    done = subprocess.run(["sh", "-c", f"{script}\n{dump}"], env=mine, capture_output=True, text=True)
    before, untouched, within, *after = (json.loads(line) for line in done.stdout.splitlines())
    assert before.items() >= mine.items(), done.stderr
    assert untouched == before
    assert within["https_proxy"] == "http://127.0.0.1:3"
    assert after == [before, before]


# ---- what is refused


@pytest.mark.parametrize("url", ["https://example.com/x", "https://pypi.org/simple", "http://example.com/x",
                                 f"https://{HOST}:8443/x", f"http://{HOST}:8080/x"])  # fmt: skip
def test_other_hosts_and_ports_are_refused_and_never_dialled(servers, session, url, monkeypatch):
    servers.lines.clear()
    host = re.split("[:/]+", url)[1]
    try:
        answer = session.get(url)
        said = f"{answer.status_code} {answer.reason} {answer.text}"
    except requests.exceptions.ProxyError as error:
        said = str(error)
    assert "403" in said and host in said
    assert len(servers.lines) == 1
    assert host in servers.lines[0]
    if host != HOST:
        assert "--allow-internet" in said and "--allow-internet" in servers.lines[0]


def talk(servers, data, *, end=False):
    """What a bare socket gets for `data`, until the proxy closes."""
    with socket.create_connection(("127.0.0.1", servers.proxy.port), timeout=20) as sock:
        sock.sendall(data)
        if end:
            sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_the_answer_to_a_refused_upload_arrives(servers):
    """What the client still sends is taken, since a reset would cut the answer off."""
    said = talk(servers, b"POST http://example.com/x HTTP/1.1\r\n\r\n" + b"x" * 30_000_000, end=True)
    assert said.startswith(b"HTTP/1.1 403 ") and b"example.com is not emulated" in said


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"\x00\x01\x02\r\n\r\n", b"400"),
        (b"CONNECT  HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT host:port HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT a:" + b"9" * 5000 + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT a:65536 HTTP/1.1\r\n\r\n", b"400"),
        (b"GET http://[bad/ HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT a\x1b[31m.googleapis.com:443 HTTP/1.1\r\n\r\n", b"400"),
        (b"GET https://storage.googleapis.com/ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET ftp://storage.googleapis.com/ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70000, b"431"),
    ],
)
def test_what_is_no_request_is_refused(servers, until, data, status):
    assert talk(servers, data).split(b" ")[1] == status
    until(lambda: idle(servers))
    assert not [line for line in servers.lines if not line.isprintable()]


def test_a_tunnel_that_carries_no_tls_is_closed(servers, until):
    servers.lines.clear()
    connect = f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode()
    assert talk(servers, connect + b"GET / HTTP/1.1\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert "where TLS was expected" in servers.lines[0]
    until(lambda: idle(servers))


def test_a_plain_connection_carries_one_request_alone(servers):
    """A second one might be for another host, and would go to the first."""
    one = b"GET http://5.aiplatform.googleapis.com/one HTTP/1.1\r\nHost: x\r\n\r\n"
    two = b"GET http://example.com/two HTTP/1.1\r\nHost: example.com\r\n\r\n"
    said = talk(servers, one + two)
    assert said.count(b"HTTP/1.1 200") == 1 and b"/one" in said and b"/two" not in said
    assert b'"host":"5.aiplatform.googleapis.com"' in said


def test_a_host_named_by_the_emulator_is_answered_too(files):
    with running(also={"10.128.0.7"}.__contains__) as servers, requests.Session() as session:
        session.proxies = {"https": servers.proxy.url, "http": servers.proxy.url}
        session.trust_env, session.verify = False, str(files.bundle)
        assert session.get("https://10.128.0.7/v1/psc").json()["server"] == "rest"
        assert session.get("http://10.128.0.7/v1/psc").json()["server"] == "plain"
        assert b"answered on port 80 alone" in talk(servers, b"GET http://10.128.0.7:81/ HTTP/1.1\r\n\r\n")
        assert b"answered on port 443 alone" in talk(servers, b"CONNECT 10.128.0.7:8443 HTTP/1.1\r\n\r\n")
        with pytest.raises(requests.exceptions.ProxyError):
            session.get("https://10.128.0.8/v1/psc")


# ---- faults


def test_a_client_that_says_nothing_in_time_is_closed(until, files):
    with running(hello_timeout_s=0.2) as servers:
        connect = f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode()
        begun = client_hello(["h2"], HOST)[:40]
        for data in (b"", b"CONN", connect, connect + begun):
            assert not talk(servers, data).removeprefix(b"HTTP/1.1 200 Connection established\r\n\r\n")
        until(lambda: idle(servers))
        assert len(servers.lines) == 3  # one that said nothing at all may have been a browser's spare connection


def test_a_hello_that_comes_byte_by_byte_is_heard(servers, files):
    context = ssl.create_default_context(cafile=str(files.bundle))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
    with socket.create_connection(("127.0.0.1", servers.proxy.port), timeout=20) as sock:
        sock.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        for _ in range(20):
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
            for byte in outgoing.read():
                sock.sendall(bytes([byte]))
            incoming.write(sock.recv(65536))
        assert tls.getpeercert()["issuer"]


def test_a_client_that_is_gone_leaves_no_connection(servers, session, until):
    """Closed, and reset, before the hello, within it, and while its answer is awaited."""
    connect = f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode()
    whole = connect + client_hello(["http/1.1"], HOST)
    for data in (b"", connect[:9], connect, whole[:-50], whole):
        for linger in (False, True):
            sock = socket.create_connection(("127.0.0.1", servers.proxy.port))
            sock.sendall(data)
            if linger:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            sock.close()
    until(lambda: idle(servers))
    for scheme, name in (("https", "rest"), ("http", "plain")):
        state = servers.apps[name]
        state.waiting.clear(), state.left.clear()
        code = f'import requests; requests.get("{scheme}://{HOST}/waits")'
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            assert state.waiting.wait(20)
            process.kill()
        assert state.left.wait(20), "the server was not told"
    until(lambda: idle(servers))


def test_a_server_that_goes_away_ends_the_client(servers, until):
    """Reset in the middle of a transfer."""
    ends = socket.create_server(("127.0.0.1", 0))

    async def swap(port):
        ports, servers.proxy.ports = servers.proxy.ports, Ports(plain=port, rest=port, grpc=port)
        return ports

    ports = servers.call(swap(ends.getsockname()[1]))
    try:
        with socket.create_connection(("127.0.0.1", servers.proxy.port), timeout=20) as sock:
            sock.sendall(b"GET /x HTTP/1.1\r\n\r\n")
            with ends, ends.accept()[0] as server:
                assert server.recv(1000) == b"GET /x HTTP/1.1\r\n\r\n"
                server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                assert b"half" in sock.recv(1000)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1000) == b""
        until(lambda: idle(servers))
        # and one that is not there
        assert talk(servers, b"GET /x HTTP/1.1\r\n\r\n") == b""
        assert "does not answer" in servers.lines[-1]
    finally:
        servers.call(swap(0))
        servers.proxy.ports = ports
    until(lambda: idle(servers))


def test_a_client_that_ends_its_side_still_gets_the_rest(servers):
    ends = socket.create_server(("127.0.0.1", 0))
    ports, servers.proxy.ports = servers.proxy.ports, Ports(plain=ends.getsockname()[1], rest=0, grpc=0)
    try:
        with socket.create_connection(("127.0.0.1", servers.proxy.port), timeout=20) as sock:
            sock.sendall(b"GET /x HTTP/1.1\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            with ends, ends.accept()[0] as server:
                assert b"".join(iter(lambda: server.recv(1000), b"")) == b"GET /x HTTP/1.1\r\n\r\n"
                server.sendall(b"late answer")
            assert b"".join(iter(lambda: sock.recv(1000), b"")) == b"late answer"
    finally:
        servers.proxy.ports = ports


SIZE = 100_000_000


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_hundred_megabytes_pass_intact(servers, session, scheme, until):
    body = os.urandom(1_000_000) * (SIZE // 1_000_000)
    said = session.post(f"{scheme}://{HOST}/up", data=body).json()
    assert (said["size"], said["sha"]) == (SIZE, hashlib.sha256(body).hexdigest())
    wanted, got = hashlib.sha256(), hashlib.sha256()
    for at in range(0, SIZE, 2**18):
        wanted.update(bytes([at % 251]) * min(2**18, SIZE - at))
    with session.get(f"{scheme}://{HOST}/much?size={SIZE}", stream=True) as answer:
        for chunk in answer.iter_content(2**20):
            got.update(chunk)
    assert got.digest() == wanted.digest()


def test_a_client_that_does_not_read_holds_the_server_back(servers, session):
    """The proxy keeps no more of an answer than its buffers hold."""
    with session.get(f"http://{HOST}/much?size=300000000", stream=True) as answer:
        first = answer.raw.read(1000)
        before = memory()
        for _ in range(3):
            assert session.get(f"https://{HOST}/v1/other").ok  # the loop goes on meanwhile
        assert len(first) == 1000
        assert memory() - before < 50_000_000
        answer.raw.close()


def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_too_many_connections_are_refused_and_the_next_ones_served(until):
    with running(most_connections=3) as servers:
        open_ = [socket.create_connection(("127.0.0.1", servers.proxy.port)) for _ in range(3)]
        until(lambda: len(servers.proxy.connections) == 3)
        assert b"503 3 connections are open" in talk(servers, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        for sock in open_:
            sock.close()
        until(lambda: idle(servers))
        assert b" 200 " in talk(servers, b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


def test_stop_leaves_no_connection(until):
    with running() as servers:
        sock = socket.create_connection(("127.0.0.1", servers.proxy.port), timeout=20)
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(100)
        servers.call(servers.proxy.stop())
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(65536):
                pass
        sock.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", servers.proxy.port))


# ---- the internet, where it is allowed: a second proxy stands for the outer one, since there is none here


def test_allowed_hosts_go_through_the_proxy_of_the_outer_environment(files):
    seen = []
    listener = socket.create_server(("127.0.0.1", 0))

    def outer():
        for answer in (b"HTTP/1.1 200 Fine\r\nX: y\r\n\r\nEARLY", b"HTTP/1.1 407 Who are you\r\n\r\n",
                       b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain"):  # fmt: skip
            with listener.accept()[0] as sock:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += sock.recv(65536)
                seen.append(head.decode())
                sock.sendall(answer)
                if b"EARLY" in answer:
                    seen.append(sock.recv(100).decode())

    thread = threading.Thread(target=outer)
    thread.start()
    outer_url = f"http://me:p%40ss@127.0.0.1:{listener.getsockname()[1]}"
    outside = Outside.of({"HTTPS_PROXY": outer_url, "http_proxy": outer_url, "no_proxy": "near.example.com"})
    with running(outside=outside) as servers:
        with socket.create_connection(("127.0.0.1", servers.proxy.port), timeout=20) as sock:
            sock.sendall(b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")
            said = b""
            while b"EARLY" not in said:
                said += sock.recv(1000)
            assert said == b"HTTP/1.1 200 Connection established\r\n\r\nEARLY"
            sock.sendall(b"mine")
            assert sock.recv(100) == b""
        assert b" 502 " in talk(servers, b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")
        assert "407 Who are you" in servers.lines[-1]
        assert talk(servers, b"GET http://example.com/p?q HTTP/1.1\r\nHost: example.com\r\n\r\n").endswith(b"plain")
        # Google's own names stay here all the same
        refused = talk(servers, f"CONNECT {HOST}:8443 HTTP/1.1\r\n\r\n".encode())
        assert b" 403 " in refused
    thread.join()
    listener.close()
    assert seen[0].startswith("CONNECT example.com:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in seen[0]
    assert seen[1] == "mine"
    assert seen[3].startswith("GET http://example.com/p?q HTTP/1.1\r\n")


def test_allowed_hosts_are_dialled_where_there_is_no_outer_proxy(files, until):
    outside = Outside.of({"https_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"})
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with running(outside=outside) as servers:
        with socket.create_connection(("127.0.0.1", servers.proxy.port), timeout=20) as sock:
            sock.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
            with listener.accept()[0] as server:
                assert sock.recv(1000).startswith(b"HTTP/1.1 200")
                sock.sendall(b"ping")
                assert server.recv(10) == b"ping"
        listener.close()
        assert b" 502 " in talk(servers, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
        until(lambda: idle(servers))


def test_other_ports_of_a_private_address_are_let_out():
    """A machine of the caller's own network may have the address that a PSC endpoint is asked at."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with running(also={"127.0.0.1"}.__contains__, outside=Outside.of({})) as servers:
        for asked in (f"CONNECT 127.0.0.1:{port}", f"GET http://127.0.0.1:{port}/"):
            with socket.create_connection(("127.0.0.1", servers.proxy.port), timeout=20) as sock:
                sock.sendall(f"{asked} HTTP/1.1\r\n\r\n".encode())
                listener.settimeout(20)
                listener.accept()[0].close()
    listener.close()


def test_another_emulators_proxy_is_not_the_way_out():
    assert Outside.of({"https_proxy": "http://127.0.0.1:1", "CPR_EMULATOR": "http://127.0.0.1:2"}).proxies == {}


# ---- certificates


def test_keys_stay_in_memory(tmp_path, monkeypatch):
    opened = []

    def hook(event, arguments):
        if event == "open" and opened is not None:
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    ServerCertificate(Authority()).cover(DEDICATED)
    seen, opened = opened, None
    assert not seen


def test_a_key_goes_to_a_file_of_this_user_where_no_file_is_in_memory(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with certificates._as_file(b"key") as path:
        assert (Path(path).parent, Path(path).read_bytes()) == (tmp_path, b"key")
        assert Path(path).stat().st_mode & 0o777 == 0o600
    ServerCertificate(Authority()).cover(DEDICATED)
    assert not list(tmp_path.iterdir())


def test_the_bundle_is_the_systems_roots_and_this_authority(tmp_path):
    own = authority().certificate
    mine, other = tmp_path / "mine.pem", tmp_path / "other.pem"
    mine.write_bytes(Authority().certificate)
    other.write_bytes(Authority().certificate)
    authority().bundle(tmp_path / "b", {})
    assert (tmp_path / "b").read_bytes().count(b"BEGIN CERTIFICATE") > 20
    authority().bundle(tmp_path / "b", {"SSL_CERT_FILE": str(mine), "REQUESTS_CA_BUNDLE": str(other)})
    assert (tmp_path / "b").read_bytes() == mine.read_bytes() + other.read_bytes() + own
    authority().bundle(tmp_path / "b", {"SSL_CERT_FILE": str(mine), "CPR_EMULATOR": "http://127.0.0.1:1"})
    assert mine.read_bytes() not in (tmp_path / "b").read_bytes()
    authority().bundle(tmp_path / "b", {"SSL_CERT_FILE": str(tmp_path / "gone.pem")})
    assert (tmp_path / "b").read_bytes().count(b"BEGIN CERTIFICATE") > 20


def test_files_are_for_this_user_alone(folder, files):
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" not in files.bundle.read_bytes()
