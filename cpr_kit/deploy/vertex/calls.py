"""Calls to Google's APIs: credentials, patience with what passes, and refusals in words that help.

429, 503 and a lost connection pass: such a call is made again for as long as `patience_s`. A call that changes
something may have taken effect although its answer was lost, so whoever makes it must find that again by name.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cpr_kit.deploy.vertex import failures
from cpr_kit.errors import CprError, DeployLacking, LackingError, MissingExtra
from cpr_kit.harness.reasons import innermost

Report = Callable[[str], None]
"""Takes one line about what is being done or waited for."""

_T = TypeVar("_T")
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_EVERY_S = 30.0
_LOG_IN = "gcloud auth application-default login"

# A token that gRPC cannot fetch is told as an error of the call; its own log would put a traceback before it.
logging.getLogger("grpc._plugin_wrapping").addHandler(logging.NullHandler())


def silent(_line: str) -> None:
    """The report that nobody reads."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a call is repeated, and how often an operation is looked at. Seconds."""

    total_s: float = 120.0
    unreached_s: float = 20.0
    """How long, while nothing of Google's has ever answered: then it is the network that lacks, or its proxy."""
    first_s: float = 0.5
    longest_s: float = 15.0
    poll_s: float = 0.5
    longest_poll_s: float = 10.0


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """Around an import of Google's libraries. Raises MissingExtra where they are lacking."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("google"):
            raise MissingExtra("google-cloud-aiplatform", "vertex") from error
        raise


class Caller:
    """Makes calls with one set of credentials. Safe to use from several threads."""

    def __init__(self, patience: Patience | None = None, report: Report = silent) -> None:
        self.patience = patience or Patience()
        self.report = report
        self._credentials: Any = None
        self._lock = threading.Lock()
        self._is_reached = False

    @property
    def credentials(self) -> Any:
        """Application-default credentials. Raises LackingError where there are none."""
        with self._lock:
            if self._credentials is None:
                self._credentials = _default_credentials()
            return self._credentials

    def __call__(self, what: str, call: Callable[..., _T], *args: Any, means: Sequence[str] = (), **fields: Any) -> _T:
        """`call`, repeated while its refusal is one that passes. Raises DeployError, LackingError.

        `what` completes "Vertex AI refused to ...". `means` names the classes of google.api_core's errors that mean
        something to who calls: these come out as they are.
        """
        means = (*means, "Unauthenticated")
        with libraries():
            from google.api_core import exceptions

        from google.auth import exceptions as auth

        try:
            return self._patiently(what, functools.partial(call, *args, **fields), means)
        except exceptions.Unauthenticated:
            self._refresh()
        except auth.RefreshError as error:
            raise _logged_out(error) from error
        self.report(f"the credentials were refused and have been renewed; again: {what}")
        try:
            return self._patiently(what, functools.partial(call, *args, **fields), means)
        except (exceptions.Unauthenticated, auth.RefreshError) as error:
            raise _logged_out(error) from error

    def _patiently(self, what: str, call: Callable[[], _T], means: Sequence[str]) -> _T:
        from google.api_core import exceptions

        try:
            answer: _T = self._policy(what)(call)()
        except exceptions.RetryError as error:
            cause = error.cause or error
            if _unreached(cause):
                raise self._unreached(what, cause) from error
            remedy = f"it was repeated for {self.patience.total_s:g} s; run the same command later"
            raise failures.refused(what, cause, remedy) from error
        except (exceptions.GoogleAPICallError, ConnectionError) as error:
            if failures.logged_out(error):
                raise _logged_out(error) from error
            if type(error).__name__ in means:
                raise
            if _unreached(error):
                raise self._unreached(what, error) from error
            raise failures.refused(what, error) from error
        self._is_reached = True
        return answer

    def _policy(self, what: str) -> Any:
        """When a call is made again: google.api_core's Retry, with each refusal told once."""
        from google.api_core import exceptions, retry

        said, patience, began = "", self.patience, time.monotonic()

        def told(error: Exception) -> None:
            nonlocal said
            before, said = said, failures.brief(error)
            if said != before:  # the same words for two minutes tell nothing new
                self.report(f"{said}; again: {what}")

        passing = retry.if_exception_type(
            exceptions.ServiceUnavailable, exceptions.TooManyRequests, exceptions.GatewayTimeout, ConnectionError
        )

        def passes(error: Exception) -> bool:
            self._is_reached = self._is_reached or not _unreached(error)
            # A quota for machines is 429 too, and does not pass.
            if not passing(error) or failures.explained(str(error)) is not None or failures.logged_out(error):
                return False
            return self._is_reached or time.monotonic() - began < patience.unreached_s

        return retry.Retry(
            predicate=passes,
            initial=patience.first_s,
            maximum=patience.longest_s,
            multiplier=2.0,
            timeout=patience.total_s,
            on_error=told,
        )

    def _unreached(self, what: str, error: Exception) -> DeployLacking:
        patience = self.patience
        tried_s = patience.total_s if self._is_reached else min(patience.total_s, patience.unreached_s)
        return DeployLacking(
            f"Google does not answer here: could not {what}: {failures.brief(error)}",
            f"{failures.NETWORK}; it was tried for {tried_s:g} s, and the same command goes on where it stopped",
        )

    def _refresh(self) -> None:
        from google.auth import exceptions
        from google.auth.transport.requests import Request

        try:
            self.credentials.refresh(Request())
        except exceptions.TransportError as error:
            raise DeployLacking(
                f"Google does not answer here: no token could be fetched: {innermost(error)}", failures.NETWORK
            ) from error
        except exceptions.GoogleAuthError as error:
            raise _logged_out(error) from error

    def wait(self, what: str, look: Callable[[], Any]) -> Any:
        """Look at an operation until it is done, saying now and then what is waited for; the operation."""
        patience, began, pause = self.patience, time.monotonic(), self.patience.poll_s
        said = 0.0
        while True:
            operation = self(f"look at: {what}", look)
            if operation.done:
                return operation
            waited = time.monotonic() - began
            if waited - said >= _EVERY_S:
                said = waited
                self.report(f"{what}: {waited:.0f} s so far")
            time.sleep(pause)
            pause = min(pause * 1.5, patience.longest_poll_s)


def _default_credentials() -> Any:
    with libraries():
        import google.auth
    from google.auth import exceptions

    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
    except exceptions.DefaultCredentialsError as error:
        said = str(error).splitlines()[0]
        why = "" if said.startswith("Your default credentials were not found") else f": {said}"
        raise LackingError(
            f"there are no Google credentials here{why} | log in: {_LOG_IN}; "
            "or name a key or a federation file with GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
    return credentials


def _unreached(error: BaseException) -> bool:
    """Whether nobody was there: with another code it is Vertex AI that speaks, of what it could not reach itself."""
    from google.api_core import exceptions

    kinds = (exceptions.ServiceUnavailable, exceptions.GatewayTimeout, ConnectionError)
    return isinstance(error, kinds) and failures.unreached(error)


def _logged_out(error: Exception) -> CprError:
    return LackingError(
        f"Google no longer takes these credentials ({failures.brief(error)}) | log in again: {_LOG_IN}; "
        "then run the same command, which goes on where it stopped"
    )
