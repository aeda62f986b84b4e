"""Requests to one registry: its login challenge, retries, and its errors in words (OCI Distribution Specification)."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cpr_kit.deploy.registry import credentials
from cpr_kit.deploy.registry.names import Name
from cpr_kit.engine.registry import is_googles
from cpr_kit.errors import MissingExtra, RegistryError, RegistryLacking
from cpr_kit.harness.reasons import innermost, reasons
from cpr_kit.version import __version__

if TYPE_CHECKING:
    import requests

    from cpr_kit.deploy.registry.credentials import Found, Login

TRANSIENT = (429, 502, 503, 504)
_TIMEOUT_S = (10.0, 60.0)
_ATTEMPTS = 4
_CONNECTS = 2
_PAUSE_S = 0.3
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _NOT_ALLOWED, _SERVER = 401, 403, 404, 405, 500
# A PATCH carries a blob, which its caller sends again from the start; all others may simply be sent again.
_REPEATABLE = frozenset({"HEAD", "GET", "POST", "PUT", "DELETE"})


class Transport:
    """Speaks for one repository; `actions` is "pull" or "pull,push". `also` is a second one that is read from."""

    def __init__(self, name: Name, *, actions: str = "pull", also: Name | None = None) -> None:
        self.name = name
        self._scopes = [f"repository:{name.repository}:{actions}"]
        if also is not None:
            self._scopes.append(f"repository:{also.repository}:pull")
        self._session = _session(local=name.is_local)
        self._authorization = ""
        self._found: Found | None = None

    def close(self) -> None:
        """Also what urllib3 leaves to the garbage collector: the errors of a broken connection keep its pool alive."""
        for adapter in self._session.adapters.values():
            pools: Any = vars(adapter)["poolmanager"].pools
            for key in pools.keys():  # noqa: SIM118 - urllib3's container cannot be iterated over
                pools[key].close()
        self._session.close()

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """`path` is below the repository's root, or a whole URL. Logs in when asked to, anew when a token expired."""
        url = path if "://" in path else f"{self.name.url}/{path}"
        with self._told():
            response = self._once(method, url, **options)
            challenge = response.headers.get("WWW-Authenticate")
            if response.status_code != _UNAUTHORIZED or not challenge:
                return response
            response.close()
            if not self._answered(challenge):
                return response
            return self._once(method, url, **options)

    def refusal(self, response: requests.Response, doing: str) -> RegistryError:
        """What a registry answered to something, as an error with its remedy."""
        status, said = response.status_code, _said(response)
        cause = f"{self.name.host} does not {doing} ({status}: {said})"
        if status == _UNAUTHORIZED:
            return self._no_login(cause)
        if status == _FORBIDDEN:
            return RegistryError(cause, self._rights())
        if status == _NOT_FOUND:
            return RegistryError(cause, "look at the name; a repository of Artifact Registry is made before its images")
        if status == _NOT_ALLOWED:
            return RegistryError(
                cause, "it only gives images (read-only, or another one's cache): name another registry"
            )
        if status >= _SERVER:
            return RegistryError(
                cause, "the registry itself fails: look at its log and whether its disk is full, then run this again"
            )
        return RegistryError(cause, "look at the name and at what the registry said")

    def unreachable(self, error: Exception) -> RegistryError:
        """Where it was never reached, nothing was refused: this machine lacks the way there."""
        import requests
        from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

        never = (requests.exceptions.ProxyError, NewConnectionError, ConnectTimeoutError, ProxyError)
        lacks = any(isinstance(each, never) for each in reasons(error))
        return (RegistryLacking if lacks else RegistryError)(
            f"{self.name.host} does not answer, or broke the connection: {innermost(error)}",
            f"look whether {self.name.host} can be reached from here, then run this again: what arrived is kept",
        )

    def _once(self, method: str, url: str, **options: Any) -> requests.Response:
        # A callable keeps requests from putting a netrc's login over ours; it is left behind on another host.
        return self._session.request(method, url, auth=self._authorized, timeout=_TIMEOUT_S, **options)

    def _authorized(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._authorization and _same_host(str(request.url), self.name.url):
            request.headers["Authorization"] = self._authorization
        return request

    def _answered(self, challenge: str) -> bool:
        """Whether there is something to answer the challenge with that was not tried yet."""
        kind, _, rest = challenge.partition(" ")
        self._found = credentials.find(self.name.host)
        login = self._found.login
        before = self._authorization
        if kind.lower() == "basic":
            self._authorization = _basic(login) if login is not None and login.username else ""
        else:
            self._authorization = f"Bearer {self._token(_parameters(rest), login)}"
        return bool(self._authorization) and self._authorization != before

    def _token(self, asked: Mapping[str, str], login: Login | None) -> str:
        """From the registry's token service, by name and password or by an identity token."""
        realm = asked.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not Name(parts.netloc, "token").is_local:
            raise RegistryError(
                f'{self.name.host} sends logins to "{realm}", which has no TLS', "ask whoever runs that registry"
            )
        query: dict[str, Any] = {"service": asked.get("service", ""), "scope": self._scopes}
        if login is not None and login.identity_token:
            form = {**query, "scope": " ".join(self._scopes), "grant_type": "refresh_token", "client_id": "cpr-kit"}
            form["refresh_token"] = login.identity_token
            response = self._session.post(realm, data=form, auth=_nobody, timeout=_TIMEOUT_S)
        else:
            auth = _nobody if login is None else (login.username, login.password)
            response = self._session.get(realm, params=query, auth=auth, timeout=_TIMEOUT_S)
        if not response.ok:
            raise self._no_login(f"{parts.netloc} gives no token ({response.status_code}: {_said(response)})")
        try:
            told = response.json()
            return str(told.get("token") or told["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError(
                f"{parts.netloc} answered {response.status_code} without a token", "run this again"
            ) from error

    def _no_login(self, cause: str) -> RegistryError:
        host = self.name.host
        found = self._found or credentials.find(host)
        if found.login is not None:
            cause += f"; it refused the login of {found.login.source}"
        else:
            cause += f"; no login was found ({'; '.join(found.looked)})"
        if is_googles(f"{host}/"):
            ways = f"gcloud auth configure-docker {host}, or gcloud auth application-default login"
        else:
            ways = f"docker login {host}"
        return (RegistryError if found.login is not None else RegistryLacking)(cause, f"log in: {ways}")

    def _rights(self) -> str:
        if not is_googles(f"{self.name.host}/"):
            return f"ask for the right to this repository, or log in as someone else: docker login {self.name.host}"
        return (
            f"whoever you are logged in as needs roles/artifactregistry.reader on the repository, and "
            f"roles/artifactregistry.writer to push; log in: gcloud auth configure-docker {self.name.host}"
        )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        import requests

        try:
            yield
        except requests.RequestException as error:
            raise Dropped(self.unreachable(error)) from error


class Dropped(RegistryError):
    """The registry could not be reached, or the connection broke: the same may work a second time."""

    def __init__(self, error: RegistryError) -> None:
        Exception.__init__(self, str(error))
        self.exit_code = error.exit_code


def _session(*, local: bool) -> requests.Session:
    try:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3 import Retry
    except ImportError as error:
        raise MissingExtra("requests", "docker") from error
    session = requests.Session()
    session.headers["User-Agent"] = f"cpr-kit/{__version__}"
    session.headers["Accept-Encoding"] = "identity"  # blobs are taken as they are
    session.trust_env = not local  # a proxy never leads to this machine
    retry = Retry(
        total=_ATTEMPTS,
        connect=_CONNECTS,
        backoff_factor=_PAUSE_S,
        status_forcelist=TRANSIENT,
        allowed_methods=_REPEATABLE,
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def _parameters(text: str) -> dict[str, str]:
    from requests.utils import parse_dict_header

    return {key.lower(): str(value) for key, value in parse_dict_header(text).items()}  # type: ignore[no-untyped-call]


def _same_host(first: str, second: str) -> bool:
    return urlsplit(first).netloc == urlsplit(second).netloc


def _said(response: requests.Response) -> str:
    """The registry's own words: {"errors": [{"code", "message", "detail"}]}."""
    try:
        errors = response.json()["errors"]
        said = "; ".join(f"{each.get('code', '')} {each.get('message', '')}".strip() for each in errors)
        # Which actions were asked for (401) says nothing; what a failing registry lacks does.
        is_failing = response.status_code >= _SERVER
        details = [str(each["detail"]) for each in errors if each.get("detail") and is_failing]
    except (ValueError, KeyError, TypeError, AttributeError):
        said, details = " ".join(response.text.split())[:300], []
    return " ".join([said or response.reason or "nothing said", *(f"[{detail[:300]}]" for detail in details)])
