"""What programs ask Google's other hosts for: tokens, IAM credentials, projects, metadata."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cpr_kit.emulator.errors import ApiError, Code, invalid_argument, not_found, unimplemented
from cpr_kit.emulator.journal import Journal
from cpr_kit.emulator.proxy import credentials, hosts, tokens
from cpr_kit.emulator.proxy.access import Access
from cpr_kit.emulator.proxy.bodies import json_object
from cpr_kit.emulator.proxy.log_entries import LogEntries
from cpr_kit.emulator.proxy.metadata import ROOT, Metadata
from cpr_kit.emulator.settings import Settings

_OAUTH = "oauth2.googleapis.com"
_WWW = "www.googleapis.com"
_STS = "sts.googleapis.com"
_IAM = "iamcredentials.googleapis.com"
_PROJECTS = "cloudresourcemanager.googleapis.com"
_OPENID = "openidconnect.googleapis.com"
_ACCOUNTS = "iam.googleapis.com"
_REPOSITORIES = "artifactregistry.googleapis.com"
_SERVICES = "serviceusage.googleapis.com"
_LOGS = "logging.googleapis.com"

HOSTS = frozenset(
    {_OAUTH, _WWW, _STS, _IAM, _PROJECTS, _OPENID, _ACCOUNTS, _REPOSITORIES, _SERVICES, _LOGS, *hosts.METADATA}
)

_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name
_ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
_LONGEST_LIFETIME_S = 12 * 3600
_SERVER_FAULT = 500


def serves(scope: Scope) -> bool:
    """Whether `application` answers this request: by its host, or, without one of Google's, for its metadata."""
    host = _host(scope)
    if host in HOSTS:
        # Storage's own JSON API has www.googleapis.com as an old name.
        return host != _WWW or scope["path"].startswith("/oauth2/")
    return host in hosts.LOCAL and asks_metadata(scope)


def gives_tokens(scope: Scope) -> bool:
    """Whether a request is for an access token, by whichever grant."""
    return scope["method"] == "POST" and (_host(scope), scope["path"]) in ((_OAUTH, "/token"), (_STS, "/v1/token"))


def token_refusal(status: int, description: str) -> Response:
    """In the words of RFC 6749: a client's fault is the grant's, any other the server's."""
    code = "invalid_grant" if status < _SERVER_FAULT else "internal_failure"
    return _oauth_error(code, description, status)


def asks_metadata(scope: Scope) -> bool:
    """Whether a request is for the metadata server, wherever its client found it (GCE_METADATA_HOST)."""
    is_ping = scope["path"] == "/" and Headers(scope=scope).get("Metadata-Flavor") == "Google"
    return is_ping or bool(scope["path"].startswith(ROOT))


def application(
    number_of: Callable[[str], str],
    *,
    id_of: Callable[[str], str] = lambda number: number,
    project: str = "emulator",
    region: str = "us-central1",
    settings: Settings | None = None,
    journal: Journal | None = None,
) -> ASGIApp:
    """The app for all requests that `serves` is true of.

    `number_of` and `id_of` turn a project's id into its number and back; `project` is the one that metadata and
    tokens name.
    """
    email = credentials.email_of(project)
    metadata = Metadata(project=project, number=number_of(project), region=region, email=email)
    tokens_app = _routed(Tokens(email).routes())
    settings = settings or Settings()
    access = Access(settings, number_of)
    log = LogEntries(journal or Journal(), settings, number_of, id_of)
    by_host: dict[str, ASGIApp] = {
        **dict.fromkeys((_OAUTH, _WWW, _STS, _OPENID), tokens_app),
        _IAM: _routed([Route("/v1/{name:path}", _iam, methods=["GET", "POST"])]),
        _PROJECTS: _routed([*access.projects(), *Projects(number_of, id_of).routes()]),
        _ACCOUNTS: _routed(access.accounts()),
        _REPOSITORIES: _routed(access.repositories()),
        _SERVICES: _routed(access.services()),
        _LOGS: _routed(log.routes()),
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        inner = by_host.get(_host(scope))
        if inner is None:
            await metadata.answer(Request(scope))(scope, receive, send)
        else:
            await inner(scope, receive, send)

    return app


def _host(scope: Scope) -> str:
    """Without port; the mutual-TLS twin of a host is that host."""
    text = Headers(scope=scope).get("host", "")
    name, colon, port = text.rpartition(":")
    return hosts.normal(name if colon and port.isdigit() else text).replace(".mtls.googleapis.com", ".googleapis.com")


def _routed(routes: list[Route]) -> ASGIApp:
    return Starlette(routes=routes, exception_handlers={ApiError: _api_error, HTTPException: _http_error})


def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.http_status)


def _http_error(request: Request, error: Exception) -> Response:
    """A path or method that no route has."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.headers.get('host')}{request.url.path}"
    missing = ApiError(Code.UNIMPLEMENTED, f"{what} is not emulated", http_status=error.status_code)
    return JSONResponse(missing.body(), missing.http_status)


class Tokens:
    """oauth2.googleapis.com and sts.googleapis.com: RFC 6749, 7523 and 8693, as far as google-auth uses them."""

    def __init__(self, email: str) -> None:
        self._email = email

    def routes(self) -> list[Route]:
        return [
            Route("/token", self._token, methods=["POST"]),  # oauth2
            Route("/v1/token", self._token, methods=["POST"]),  # sts
            Route("/tokeninfo", self._info, methods=["GET", "POST"]),
            Route("/oauth2/v{version}/tokeninfo", self._info, methods=["GET", "POST"]),
            Route("/v1/userinfo", self._user, methods=["GET"]),
            Route("/oauth2/v{version}/userinfo", self._user, methods=["GET"]),
            Route("/revoke", _revoked, methods=["POST"]),
        ]

    async def _token(self, request: Request) -> Response:
        fields = await _fields(request)
        kind = fields.get("grant_type")
        if kind == _JWT_BEARER:
            return self._for_assertion(fields.get("assertion", ""))
        if kind == "refresh_token":
            if not fields.get("refresh_token"):
                return _oauth_error("invalid_request", "Missing required parameter: refresh_token")
            return JSONResponse({**self._access(fields), "id_token": self._identity(fields.get("client_id", ""))})
        if kind == _TOKEN_EXCHANGE:
            if not fields.get("subject_token"):
                return _oauth_error("invalid_request", "Missing required parameter: subject_token")
            return JSONResponse({**self._access(fields), "issued_token_type": _ACCESS_TOKEN_TYPE})
        return _oauth_error("unsupported_grant_type", f"Invalid grant_type: {kind or ''}")

    def _for_assertion(self, assertion: str) -> Response:
        """A service account's: its signature is not proved, since any key that the program has shall do."""
        said = tokens.claims(assertion)
        if said is None or not said.get("iss"):
            return _oauth_error("invalid_grant", "Invalid JWT: it must have the claims iss, aud, iat and exp.")
        email = str(said["iss"])
        if audience := said.get("target_audience"):
            return JSONResponse({"id_token": tokens.identity_token(email, str(audience))})
        return JSONResponse(self._access({"scope": str(said.get("scope", ""))}, email))

    def _access(self, fields: dict[str, str], email: str = "") -> dict[str, Any]:
        scope = fields.get("scope") or " ".join(tokens.SCOPES)
        token = tokens.access_token(email or self._email, scope.split())
        return {"access_token": token, "expires_in": tokens.LIFETIME_S - 1, "token_type": "Bearer", "scope": scope}

    def _identity(self, audience: str) -> str:
        return tokens.identity_token(self._email, audience)

    async def _info(self, request: Request) -> Response:
        fields = {**request.query_params, **(await _fields(request) if request.method == "POST" else {})}
        if (said := tokens.read_access_token(fields.get("access_token", ""))) is not None:
            left = said["exp"] - int(dt.datetime.now(dt.timezone.utc).timestamp())
            sub = tokens.subject(said["email"])
            facts = {"azp": sub, "aud": sub, "sub": sub, "scope": said["scope"], "exp": str(said["exp"])}
            more = {"expires_in": str(left), "email": said["email"], "email_verified": "true", "access_type": "online"}
            return JSONResponse({**facts, **more})
        if (said := tokens.claims(fields.get("id_token", ""))) is not None:
            return JSONResponse({name: _as_text(value) for name, value in said.items()})
        return _oauth_error("invalid_token", "Invalid Value")

    async def _user(self, request: Request) -> Response:
        said = tokens.read_access_token(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if said is None:
            return _oauth_error("invalid_request", "Invalid Credentials", 401)
        return JSONResponse({"sub": tokens.subject(said["email"]), "email": said["email"], "email_verified": True})


class Projects:
    """cloudresourcemanager.googleapis.com: every project is there, and active."""

    def __init__(self, number_of: Callable[[str], str], id_of: Callable[[str], str]) -> None:
        self._number_of = number_of
        self._id_of = id_of

    def routes(self) -> list[Route]:
        return [Route("/v1/projects/{name}", self._v1), Route("/v3/projects/{name}", self._v3)]

    async def _v1(self, request: Request) -> Response:
        project, number = self._known(request.path_params["name"])
        facts = {"projectNumber": number, "projectId": project, "lifecycleState": "ACTIVE", "name": project}
        return JSONResponse({**facts, "createTime": "2020-01-01T00:00:00Z"})

    async def _v3(self, request: Request) -> Response:
        project, number = self._known(request.path_params["name"])
        facts = {"name": f"projects/{number}", "projectId": project, "state": "ACTIVE", "displayName": project}
        return JSONResponse({**facts, "createTime": "2020-01-01T00:00:00Z"})

    def _known(self, name: str) -> tuple[str, str]:
        return self._id_of(name), self._number_of(name)


async def _iam(request: Request) -> Response:
    """iamcredentials.googleapis.com: v1/projects/-/serviceAccounts/EMAIL:METHOD."""
    account, _, method = request.path_params["name"].rpartition("/")[2].partition(":")
    if request.path_params["name"].endswith("/allowedLocations") and request.method == "GET":
        return JSONResponse({"locations": [], "encodedLocations": "0x0"})  # no boundary: google-auth looks no further
    if "/serviceAccounts/" not in request.path_params["name"] or request.method != "POST":
        raise not_found(f"{request.url.path} is no service account of the emulator")
    body = await json_object(request)
    if method == "generateAccessToken":
        if not (scopes := body.get("scope")):
            raise invalid_argument("Request must contain at least one scope.")
        seconds = _lifetime(str(body.get("lifetime", f"{tokens.LIFETIME_S}s")))
        ends = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=seconds)
        token = tokens.access_token(account, scopes, seconds)
        return JSONResponse({"accessToken": token, "expireTime": ends.strftime("%Y-%m-%dT%H:%M:%SZ")})
    if method == "generateIdToken":
        if not (audience := body.get("audience")):
            raise invalid_argument("The audience is required.")
        return JSONResponse({"token": tokens.identity_token(account, str(audience))})
    raise unimplemented(f"{method or request.url.path} of the IAM credentials API is not emulated")


def _lifetime(text: str) -> int:
    number = text.removesuffix("s")
    if not number.isdigit() or not 0 < int(number) <= _LONGEST_LIFETIME_S:
        raise invalid_argument(f'The lifetime "{text}" must be of the form "3600s", up to {_LONGEST_LIFETIME_S}s.')
    return int(number)


async def _fields(request: Request) -> dict[str, str]:
    """A form's fields, as OAuth sends them, or a JSON object's, which Google takes too."""
    if request.headers.get("content-type", "").startswith("application/json"):
        return {name: str(value) for name, value in (await json_object(request)).items()}
    text = (await request.body()).decode("utf-8", "replace")
    return dict(parse_qsl(text))


async def _revoked(_request: Request) -> Response:
    return JSONResponse({})


def _oauth_error(code: str, description: str, status: int = 400) -> Response:
    return JSONResponse({"error": code, "error_description": description}, status)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
