"""One prediction from an endpoint of any kind, with what the caller has to know of it: who answered, and how fast.

It goes over REST, to the URLs and with the session class (google.auth's AuthorizedSession) that the SDK's own
`Endpoint` and `PrivateEndpoint` use, and not through these. Their `predict` turns a shared endpoint's answer into
protobuf values and back, and a status into an exception of a class for each kind of endpoint; that of an endpoint with
Private Service Connect has no deadline and warns of each call. Here the bytes, the status, the deployed model and the
time of the call are kept, and both sides of a comparison share the same path.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
import urllib.parse
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from cpr_kit.contract import MAX_BODY, EndpointKind
from cpr_kit.deploy.resources import Endpoint
from cpr_kit.deploy.vertex import calls
from cpr_kit.errors import DeclinedError, DeployLacking, LackingError, MissingExtra, PredictionError, UsageError
from cpr_kit.harness.reasons import innermost

if TYPE_CHECKING:
    import requests

DEADLINE_S: Mapping[EndpointKind, float] = {"public": 60.0, "dedicated": 600.0, "psc": 600.0, "psa": 60.0}
"""How long Vertex AI lets a request take unless the endpoint says otherwise ("Choose an endpoint type")."""
LONGEST_S: Mapping[EndpointKind, float] = {"public": 60.0, "dedicated": 3600.0, "psc": 3600.0, "psa": 60.0}
"""The most that an endpoint may say (clientConnectionConfig.inferenceTimeout)."""
CONNECT_S = 5.0
JSON = "application/json"
UNREACHED = 0
"""The status of an answer that did not come: no connection was made, or it was lost."""

_OK, _NOT_OK, _TIMEOUT = 200, 300, 504
# Vertex AI's own 504 is to come first: it is known then that the request did not get lost on the way.
_GRACE_S = 5.0
_CONNECTIONS = 64
_DEPLOYED_MODEL = "x-vertex-ai-deployed-model-id"
_OVERRIDE = re.compile(r"(?:(https?)://)?([a-zA-Z0-9.-]+(?::[0-9]{1,5})?)/?")
_LOG_IN = "gcloud auth application-default login"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back. `status` is 0 where nobody could be reached, 504 also where nothing came in time.

    `deployed_model` is empty where Vertex AI does not say: an error of :predict names nobody. `seconds` is the
    client's: from the first byte sent to the last one read.
    """

    status: int
    body: bytes
    content_type: str
    deployed_model: str
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name."""

    @property
    def ok(self) -> bool:
        return _OK <= self.status < _NOT_OK  # rawPredict hands a container's 201 on

    @property
    def message(self) -> str:
        """What an error says, in any of the usual forms."""
        reply = _parsed(self.body)
        if isinstance(reply, dict):
            error = reply.get("error", reply.get("detail", reply.get("message")))
            if isinstance(error, dict):
                error = error.get("message")
            if error is not None:
                return error if isinstance(error, str) else orjson.dumps(error).decode()
        return self.body.decode(errors="replace").strip() or "no message"

    def json(self) -> Any:
        """Raises PredictionError for an answer that is none, or no JSON."""
        self.check()
        reply = _parsed(self.body)
        if reply is None and self.body.strip() != b"null":
            raise PredictionError(self.status, f"the answer is no JSON: {self.body[:200].decode(errors='replace')}")
        return reply

    def check(self) -> None:
        """Raises PredictionError with the service's own words, DeployLacking where nobody was reached."""
        if self.status == UNREACHED:
            raise DeployLacking(self.message, "look whether this machine reaches the endpoint's network, and try again")
        if not self.ok:
            raise PredictionError(self.status, self.message)


class Asker:
    """Asks one endpoint; safe to use from several threads, which share its connections. It repeats nothing.

    `override` is the address or host name of the forwarding rule that leads to a psc endpoint's service attachment,
    which the endpoint itself does not know; `http://` before it asks port 80, and a port after it that of a tunnel
    which leads there. Behind https is a certificate that its server signed itself ("Use Private Service Connect
    endpoints"), so that for this host alone it is not verified, as the SDK does it.

    Raises UsageError for an override that is lacking or is none, DeclinedError for an endpoint that has no address yet,
    LackingError where there are no credentials.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        project: str,
        region: str,
        *,
        override: str | None = None,
        deadline_s: float | None = None,
        credentials: Any = None,
    ) -> None:
        self.endpoint = endpoint
        self.deadline_s = deadline_s or DEADLINE_S[endpoint.kind] + _GRACE_S
        self._base = _base(endpoint, project, region, override)
        self._credentials = None if endpoint.kind == "psa" else credentials or calls.Caller().credentials
        self._lock = threading.Lock()
        self._session = _session(self._credentials)
        self._options: dict[str, Any] = {}
        if endpoint.kind == "psc" and self._base.startswith("https:"):
            # Said with each request: a REQUESTS_CA_BUNDLE of the environment wins over what the session says.
            self._options["verify"] = False
            _allow_self_signed(self._base)

    def __enter__(self) -> Asker:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def predict(
        self,
        body: bytes,
        content_type: str = JSON,
        *,
        headers: Mapping[str, str] | None = None,
        raw: bool | None = None,
        deadline_s: float | None = None,
    ) -> Answer:
        """One POST. A JSON object with "instances" goes to :predict, all else to :rawPredict; `raw` decides otherwise.

        A psa endpoint has one URL for both, its model server's. Raises UsageError for a body that this kind of
        endpoint does not take, LackingError for credentials that cannot be renewed; whatever else happens is in the
        answer.
        """
        if len(body) > (limit := MAX_BODY[self.endpoint.kind]):
            raise UsageError(
                f"the request has {len(body):,} bytes, and {_NAMES[self.endpoint.kind]} takes {limit:,}; "
                f"send fewer instances at once{_LARGER if self.endpoint.kind == 'public' else ''}"
            )
        if raw is None:
            raw = not _is_prediction(body, content_type)
        url = self._base
        if self.endpoint.kind != "psa":
            url += ":rawPredict" if raw else ":predict"
        sent = {**(headers or {}), "Content-Type": content_type}
        return self._answer("POST", url, body, sent, deadline_s or self.deadline_s)

    def reach(self, deadline_s: float = CONNECT_S) -> Answer:
        """A look at the endpoint's host that no model sees, to learn how far away it is; any status says that."""
        scheme, _, rest = self._base.partition("://")
        return self._answer("GET", f"{scheme}://{rest.partition('/')[0]}/", None, {}, deadline_s)

    def _answer(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], wait_s: float) -> Answer:
        import requests
        from google.auth import exceptions

        began = time.perf_counter()
        try:
            self._renew()  # before the clock starts: the token is no part of what is measured
            began = time.perf_counter()
            response = self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=(min(CONNECT_S, wait_s), wait_s),
                allow_redirects=False,
                **self._options,
            )
        except exceptions.TransportError as error:
            return _unreached(f"no token could be fetched: {innermost(error)}", began)
        except exceptions.GoogleAuthError as error:
            raise LackingError(
                f"Google no longer takes these credentials ({error}); log in again: {_LOG_IN}"
            ) from error
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL) as error:
            raise UsageError(f"POST {url} cannot be sent: {error}") from error
        except requests.RequestException as error:
            if _is_late(error):
                words = f"{url} gave no answer within {wait_s:g} s"
                return _none(_TIMEOUT, words, began)
            return _unreached(f"{url} could not be reached, or closed the connection: {innermost(error)}", began)
        seconds = time.perf_counter() - began
        found = {name.lower(): value for name, value in response.headers.items()}
        return Answer(
            status=response.status_code,
            body=response.content,
            content_type=found.get("content-type", ""),
            deployed_model=self._who(response.status_code, found, response.content) if method == "POST" else "",
            seconds=seconds,
            headers=found,
        )

    def _renew(self) -> None:
        """One thread fetches a token, and the others wait for it."""
        if self._credentials is None or self._credentials.valid:
            return
        from google.auth.transport.requests import Request

        with self._lock:
            if not self._credentials.valid:
                self._credentials.refresh(Request())

    def _who(self, status: int, headers: Mapping[str, str], body: bytes) -> str:
        """The deployed model that answered: RawPredict's header, else PredictResponse.deployedModelId."""
        if self.endpoint.kind == "psa":  # it has one, and answers with the container's own bytes
            return self.endpoint.deployed[0].id if self.endpoint.deployed and status == _OK else ""
        if named := headers.get(_DEPLOYED_MODEL):
            return named
        if b'"deployedModelId"' not in body:
            return ""
        reply = _parsed(body)
        return str(reply.get("deployedModelId", "")) if isinstance(reply, dict) else ""


_NAMES: Mapping[EndpointKind, str] = {
    "public": "a shared public endpoint",
    "dedicated": "a dedicated endpoint",
    "psc": "an endpoint with Private Service Connect",
    "psa": "an endpoint with private services access",
}
_LARGER = f', or deploy with kind = "dedicated", which takes {MAX_BODY["dedicated"]:,}'


def _base(endpoint: Endpoint, project: str, region: str, override: str | None) -> str:
    """Where its verbs are appended; a psa endpoint's own predict URI ("Choose an endpoint type")."""
    if override and endpoint.kind != "psc":
        raise UsageError(f'endpoint "{endpoint.display_name}" is {_NAMES[endpoint.kind]}: it takes no override')
    path = f"/v1/projects/{project}/locations/{region}/endpoints/{endpoint.id}"
    if endpoint.kind == "public":
        return f"https://{region}-aiplatform.googleapis.com{path}"
    if endpoint.kind == "psc":
        return f"{_overridden(endpoint, override)}{path}"
    base = endpoint.address if endpoint.kind == "psa" else endpoint.dns and f"https://{endpoint.dns}{path}"
    if not base:
        raise DeclinedError(
            f'endpoint "{endpoint.display_name}" in {region} has no address yet: nothing is deployed to it',
            "deploy a model first: cpr up",
        )
    return base


def _overridden(endpoint: Endpoint, override: str | None) -> str:
    if not override:
        raise UsageError(
            f'endpoint "{endpoint.display_name}" is reached through Private Service Connect, and only your network '
            "knows its address there; give that of your forwarding rule: --override 10.0.0.5, or its DNS name"
        )
    match = _OVERRIDE.fullmatch(override)
    if not match:
        raise UsageError(f'override "{override}" is no IP address or DNS name; write 10.0.0.5, or http://10.0.0.5')
    return f"{match[1] or 'https'}://{match[2]}"


def _session(credentials: Any) -> requests.Session:
    try:
        import requests
    except ImportError as error:
        raise MissingExtra("requests", "vertex") from error
    session: requests.Session
    if credentials is None:
        session = requests.Session()
    else:
        with calls.libraries():
            from google.auth.transport.requests import AuthorizedSession
        # A token that was refused before its time is renewed, once, and the request sent again.
        session = AuthorizedSession(credentials, max_refresh_attempts=1)  # type: ignore[no-untyped-call]
    # The token is the authorization: no ~/.netrc is read for each request, and none replaces it.
    session.auth = _as_it_is
    adapter = _adapter()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _adapter() -> requests.adapters.HTTPAdapter:
    """Connections for many threads, kept alive: a network drops one that is silent for minutes (dedicated, psc)."""
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection

    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 5)):
        with contextlib.suppress(AttributeError):  # not every system has them all
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs, socket_options=options)

    return Adapter(pool_maxsize=_CONNECTIONS)


def _allow_self_signed(base: str) -> None:
    """urllib3 warns of each request to a host that is not verified; of this one its user knows.

    It names the host that it is connected to, which is the proxy's where there is one.
    """
    from requests.utils import get_environ_proxies, select_proxy
    from urllib3.exceptions import InsecureRequestWarning

    proxy = select_proxy(base, get_environ_proxies(base))
    for url in filter(None, (base, proxy)):
        host = re.escape(urllib.parse.urlsplit(url).hostname or "")
        warnings.filterwarnings(
            "ignore", f"Unverified HTTPS request is being made to host '{host}'", category=InsecureRequestWarning
        )


def _is_prediction(body: bytes, content_type: str) -> bool:
    """:predict takes a JSON object with "instances" and "parameters" alone: a signature's name would be lost there."""
    if content_type.partition(";")[0].strip().lower() != JSON:
        return False
    reply = _parsed(body)
    return isinstance(reply, dict) and "instances" in reply and "signature_name" not in reply


def _is_late(error: requests.RequestException) -> bool:
    """Whether the answer was waited for in vain: midway in a body, requests calls that a ConnectionError too."""
    import requests
    from urllib3.exceptions import ReadTimeoutError

    return isinstance(error, requests.ReadTimeout) or any(isinstance(each, ReadTimeoutError) for each in error.args)


def _unreached(words: str, began: float) -> Answer:
    return _none(UNREACHED, words, began)


def _none(status: int, words: str, began: float) -> Answer:
    seconds = time.perf_counter() - began
    return Answer(status=status, body=words.encode(), content_type="text/plain", deployed_model="", seconds=seconds)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None
