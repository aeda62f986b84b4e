"""Questions to Google's REST APIs whose refusals are answers: a pre-flight check tells them apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cpr_kit.deploy.vertex import failures
from cpr_kit.deploy.vertex.calls import Caller
from cpr_kit.errors import DeployLacking, LackingError
from cpr_kit.harness.reasons import innermost

_TIMEOUT_S = (10, 60)
_ATTEMPTS = 3
_OK, _FORBIDDEN, _NOT_FOUND, _NOT_IMPLEMENTED = 200, 403, 404, 501
LOG_IN = "gcloud auth application-default login"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer. `status` is 0 where none came; `code` and `reason` are the error's (google.rpc.Status, ErrorInfo)."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    reason: str = ""
    message: str = ""

    def __str__(self) -> str:
        if self.passed:
            return "200"
        head = f"{self.status or 'no answer'}{f' {self.code}' if self.code else ''}"
        return f"{head}: {self.message}" if self.message else head

    @property
    def passed(self) -> bool:
        return self.status == _OK

    @property
    def disabled(self) -> bool:
        """The API is not enabled in the project."""
        return self.reason == "SERVICE_DISABLED" or "has not been used in project" in self.message

    @property
    def forbidden(self) -> bool:
        return self.status == _FORBIDDEN and not self.disabled

    @property
    def absent(self) -> bool:
        return self.status == _NOT_FOUND


class Google:
    """Asks with one set of credentials. Safe to use from several threads."""

    def __init__(self, credentials: Any) -> None:
        self.credentials = credentials

    @classmethod
    def default(cls) -> Google:
        """With application-default credentials. Raises LackingError, MissingExtra."""
        return cls(Caller().credentials)

    def renew(self) -> None:
        """A new access token. Raises LackingError where the credentials are no longer taken."""
        from google.auth import exceptions
        from google.auth.transport.requests import Request

        try:
            self.credentials.refresh(Request())
        except exceptions.TransportError as error:
            raise DeployLacking(
                f"Google does not answer here: no token could be fetched: {innermost(error)}", failures.NETWORK
            ) from error
        except (exceptions.GoogleAuthError, OSError) as error:
            raise LackingError(
                f"Google does not take these credentials: {_first_line(error)} | log in: {LOG_IN}"
            ) from error

    @property
    def principal(self) -> str:
        """Who the credentials belong to, as far as they say it: a service account's email, a user's, or neither."""
        for name in ("service_account_email", "signer_email", "account"):
            value = getattr(self.credentials, name, "")
            if value and value != "default":
                return str(value)
        return ""

    def get(self, url: str, **parameters: Any) -> Reply:
        return self._ask("GET", url, params=parameters)

    def post(self, url: str, body: Mapping[str, Any]) -> Reply:
        return self._ask("POST", url, json=body)

    def _ask(self, method: str, url: str, **fields: Any) -> Reply:
        """429 and 503 are waited for a little. The session is this thread's alone."""
        import requests
        from google.auth import exceptions
        from google.auth.transport.requests import AuthorizedSession
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        policy = Retry(
            total=_ATTEMPTS,
            backoff_factor=0.5,
            status_forcelist=(429, 503),
            allowed_methods=None,
            raise_on_status=False,
        )
        try:
            with AuthorizedSession(self.credentials) as session:  # type: ignore[no-untyped-call]
                for scheme in ("https://", "http://"):
                    session.mount(scheme, HTTPAdapter(max_retries=policy))
                response = session.request(method, url, timeout=_TIMEOUT_S, **fields)  # type: ignore[no-untyped-call]
        except (requests.RequestException, exceptions.GoogleAuthError) as error:
            return Reply(status=0, message=innermost(error))
        return _read(response.status_code, _body(response))


def _body(response: Any) -> Mapping[str, Any]:
    try:
        value = response.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read(status: int, body: Mapping[str, Any]) -> Reply:
    error = body.get("error")
    if status == _OK or not isinstance(error, dict):
        return Reply(status=status, body=body)
    reasons = [each.get("reason", "") for each in error.get("details", ()) if isinstance(each, dict)]
    message = str(error.get("message", "")).strip()
    return Reply(
        status=status,
        body=body,
        code=str(error.get("status", "")),
        reason=next((each for each in reasons if each), ""),
        message=message.splitlines()[0] if message else "",
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no reason was given"
