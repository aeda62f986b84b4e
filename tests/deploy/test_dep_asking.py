"""Predictions from endpoints of all four kinds: what comes back, who answered, and what cannot be sent."""

import contextlib
import json
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme
from dep_endpoints import (
    ADDRESS,
    PREDICTION,
    PROJECT,
    Front,
    Token,
    body,
    connected,
    endpoint_of,
    gate,  # noqa: F401
    hung_up,
    vertex_plane,  # noqa: F401
)
from google.auth import exceptions

from cpr_kit.contract import MAX_BODY
from cpr_kit.deploy.predict.asking import Asker
from cpr_kit.deploy.resources import Endpoint
from cpr_kit.errors import DeployError, LackingError, PredictionError, UsageError

REGION = "us-central1"
ALL = ("public", "dedicated", "psc", "psa")
every = pytest.mark.parametrize("kind", ALL)


@contextlib.contextmanager
def asking(vertex_plane, kind):
    override = ADDRESS if kind == "psc" else None
    with Asker(endpoint_of(vertex_plane, kind), PROJECT, REGION, override=override) as asker:
        yield asker


def at(front, credentials=None):
    """Whatever stands in the place of a psc endpoint's network."""
    override = front if isinstance(front, str) else front.override
    return Asker(connected(), PROJECT, REGION, override=override, credentials=credentials or Token())


# What every kind does


@every
def test_a_prediction(vertex_plane, kind):
    with asking(vertex_plane, kind) as asker:
        answer = asker.predict(body({"do": "answer", "text": '{"predictions": ["a", 2.5]}'}))
        assert answer.json()["predictions"] == ["a", 2.5]
        assert (answer.status, answer.ok) == (200, True)
        assert answer.content_type.startswith("application/json")
        assert [answer.deployed_model] == [each.id for each in asker.endpoint.deployed]
        assert answer.seconds > 0


@every
def test_other_bytes_are_passed_on_as_they_are(vertex_plane, kind):
    with asking(vertex_plane, kind) as asker:
        answer = asker.predict(b"\x00\xff\x01", "image/png", headers={"X-Ask": "hi"})
        assert (answer.body, answer.content_type, answer.headers["x-echo"]) == (b"\x01\xff\x00", "image/png", "hi")
        assert answer.deployed_model == asker.endpoint.deployed[0].id


@every
def test_json_that_is_no_prediction_request_reaches_the_container(vertex_plane, kind):
    with asking(vertex_plane, kind) as asker:
        (seen,) = asker.predict(b'{"do": "show", "n": 1}').json()["predictions"]
        assert seen["body"] == '{"do": "show", "n": 1}'


@every
def test_a_container_s_error(vertex_plane, kind):
    with asking(vertex_plane, kind) as asker:
        answer = asker.predict(body({"do": "answer", "status": 503, "text": "the queue is full"}))
        assert (answer.status, answer.message, answer.deployed_model) == (503, "the queue is full", "")
        with pytest.raises(PredictionError, match="the model answered 503: the queue is full"):
            answer.check()
        named = asker.predict(b'{"do": "answer", "status": 500, "text": "oh no"}')
        # A psa endpoint's answers are the container's own; the others' rawPredict says who was wrong.
        assert named.deployed_model == ("" if kind == "psa" else asker.endpoint.deployed[0].id)


@every
def test_a_body_that_is_too_large_is_not_sent(vertex_plane, kind):
    with asking(vertex_plane, kind) as asker:
        limit = MAX_BODY[kind]
        order = {"do": "answer", "text": '{"predictions": []}', "pad": ""}
        order["pad"] = "x" * (limit - len(body(order)))
        assert asker.predict(body(order)).ok
        before = len(vertex_plane.calls)
        order["pad"] += "x"
        with pytest.raises(UsageError, match=f"the request has {limit + 1:,} bytes.*takes {limit:,}; send fewer"):
            asker.predict(body(order))
        assert len(vertex_plane.calls) == before


@every
def test_no_answer_within_the_deadline(vertex_plane, kind, gate):
    with asking(vertex_plane, kind) as asker:
        answer = asker.predict(body({"do": "never", "url": gate.url}), deadline_s=0.5)
        assert (answer.status, answer.deployed_model) == (504, "")
        assert "no answer within 0.5 s" in answer.message
        gate.wait()


@every
def test_many_threads_share_one(vertex_plane, kind):
    with asking(vertex_plane, kind) as asker, ThreadPoolExecutor(8) as pool:
        sent = [{"do": "answer", "text": json.dumps({"predictions": [number]})} for number in range(80)]
        answers = list(pool.map(lambda order: asker.predict(body(order)), sent))
    assert [answer.json()["predictions"] for answer in answers] == [[number] for number in range(80)]


@every
def test_its_host_is_reached_and_no_model_asked(vertex_plane, kind):
    with asking(vertex_plane, kind) as asker:
        answer = asker.reach()
        assert answer.status
        assert answer.deployed_model == ""


# Addresses


def test_psc_without_an_override():
    with pytest.raises(UsageError, match=r'endpoint "e" is reached through Private Service Connect.*--override 10'):
        Asker(connected(), PROJECT, REGION)


@pytest.mark.parametrize("override", ["10.0.0.5/v1", "ftp://10.0.0.5", "user@host", "a b", "10.0.0.5:x", "https://"])
def test_an_override_that_is_none(override):
    with pytest.raises(UsageError, match="is no IP address or DNS name"):
        Asker(connected(), PROJECT, REGION, override=override)


@pytest.mark.parametrize("kind", ["public", "dedicated", "psa"])
def test_an_override_where_none_belongs(kind):
    endpoint = Endpoint(id="e", name="", display_name="iris", kind=kind)
    with pytest.raises(UsageError, match='endpoint "iris" is .* it takes no override'):
        Asker(endpoint, PROJECT, REGION, override=ADDRESS)


@pytest.mark.parametrize("kind", ["dedicated", "psa"])
def test_an_endpoint_without_an_address(kind):
    endpoint = Endpoint(id="e", name="", display_name="iris", kind=kind)
    with pytest.raises(DeployError, match='"iris" in us-central1 has no address yet: nothing is deployed'):
        Asker(endpoint, PROJECT, REGION)


def test_psc_with_a_certificate_that_nobody_vouches_for(monkeypatch, tmp_path):
    """Any warning fails a test here: urllib3's own does not reach the user. A bundle of the environment changes nothing."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("x.prediction.p.vertexai.goog").configure_cert(context)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
    with Front((200, PREDICTION), tls=context) as front:
        with at(front) as asker:
            assert asker.predict(body(1)).json()["predictions"] == [1]
            assert asker.predict(b"x", "text/plain").ok
    paths = [path for path, _, _ in front.seen]
    assert paths == [f"/v1/projects/{PROJECT}/locations/{REGION}/endpoints/e:{v}" for v in ("predict", "rawPredict")]


# Credentials


def tokens(front):
    return [headers["authorization"] for _, headers, _ in front.seen]


def test_credentials_that_expire_midway_are_renewed_once():
    answers = [(200, PREDICTION), (401, b"{}"), (200, PREDICTION)]
    with Front(*answers) as front, at(front, Token()) as asker:
        assert asker.predict(body(1)).ok
        assert asker.predict(body(2)).ok
    assert tokens(front) == ["Bearer t1", "Bearer t1", "Bearer t2"]
    assert [json.loads(sent)["instances"] for _, _, sent in front.seen] == [[1], [2], [2]]


def test_credentials_that_stay_refused():
    with Front((401, b'{"error": {"message": "expired"}}')) as front, at(front, Token()) as asker:
        answer = asker.predict(body(1))
    assert (answer.status, answer.message) == (401, "expired")
    assert tokens(front) == ["Bearer t1", "Bearer t2"]


def test_one_token_for_many_threads():
    """The first thread's renewal takes until all eight have seen that there is no token."""

    class Slow(Token):
        looks = threading.Semaphore(0)

        @property
        def valid(self):
            self.looks.release()
            return self.token is not None

        def refresh(self, request):
            for _ in range(8):
                self.looks.acquire(timeout=30)
            super().refresh(request)

    made = Slow()
    with Front((200, PREDICTION)) as front, at(front, made) as asker, ThreadPoolExecutor(8) as pool:
        assert all(answer.ok for answer in pool.map(lambda _: asker.predict(body(1)), range(40)))
    assert made.count == 1


def test_credentials_that_cannot_be_renewed():
    with Front((200, PREDICTION)) as front:
        with at(front, Token(exceptions.RefreshError("revoked"))) as asker:
            with pytest.raises(LackingError, match="no longer takes these credentials.*revoked.*log in again: gcloud"):
                asker.predict(body(1))
        with at(front, Token(exceptions.TransportError("no route"))) as asker:
            answer = asker.predict(body(1))
    assert (answer.status, answer.message) == (0, "no token could be fetched: no route")
    assert front.seen == []


def test_a_netrc_does_not_replace_the_token(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Front((200, PREDICTION)) as front, at(front, Token()) as asker:
        asker.predict(body(1))
    assert tokens(front) == ["Bearer t1"]


# What goes wrong on the way


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with at(f"http://127.0.0.1:{port}") as asker:
        answer = asker.predict(body(1))
    assert (answer.status, answer.ok) == (0, False)
    assert "could not be reached, or closed the connection" in answer.message
    with pytest.raises(DeployError, match="could not be reached"):
        answer.check()


def test_the_connection_is_closed_without_an_answer():
    with hung_up() as front, at(front) as asker:
        assert asker.predict(body(1)).status == 0
    assert len(front.seen) == 1


def test_a_redirect_is_not_followed_with_the_token():
    with Front((302, b"", {"Location": "http://127.0.0.1:1/"})) as front:
        with at(front) as asker:
            answer = asker.predict(body(1))
    assert (answer.status, answer.ok, len(front.seen)) == (302, False, 1)
