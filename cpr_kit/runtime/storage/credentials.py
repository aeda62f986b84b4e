"""Access tokens for Google Cloud Storage: from the metadata server, or from a key file through google-auth."""

from __future__ import annotations

import functools
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import cast

from cpr_kit.errors import MissingExtra, StartError

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_METADATA_TRIES = 3


class Credentials:
    """The header of a request, and a new token when the old one has run out. `source` is asked for tokens."""

    def __init__(self, source: Callable[[], str]) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._token: str | None = None
        self._worked: str | None = None

    def token(self) -> str:
        with self._lock:
            if self._token is None:
                self._token = self._source()
            return self._token

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token()}"}

    def accepted(self, headers: Mapping[str, str]) -> None:
        self._worked = headers["Authorization"]

    def renewed(self, headers: Mapping[str, str]) -> bool:
        """Whether a request that was answered 401 is worth another try, with a new token.

        A token that has worked before has run out; one that never worked will not by being asked for again.
        """
        with self._lock:
            if headers["Authorization"] != self._worked:
                return self._token is not None and headers["Authorization"] != f"Bearer {self._token}"
            if f"Bearer {self._token}" == self._worked:
                self._token = None
            return True


class Anonymous(Credentials):
    """For an emulator, which asks for none."""

    def __init__(self) -> None:
        super().__init__(str)

    def headers(self) -> dict[str, str]:
        return {}

    def accepted(self, headers: Mapping[str, str]) -> None:
        pass

    def renewed(self, headers: Mapping[str, str]) -> bool:  # noqa: ARG002
        return False


def find(environ: Mapping[str, str]) -> Credentials:
    """Whatever this environment has; nothing is asked for yet."""
    if environ.get("STORAGE_EMULATOR_HOST"):
        return Anonymous()
    if environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Credentials(_of_key_file)
    return Credentials(functools.partial(_of_metadata, environ.get("GCE_METADATA_HOST", "metadata.google.internal")))


def _of_metadata(host: str) -> str:
    url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for attempt in range(_METADATA_TRIES):
        try:
            with direct.open(request, timeout=5) as response:
                return cast("str", json.load(response)["access_token"])
        except (OSError, ValueError, KeyError) as error:
            if attempt == _METADATA_TRIES - 1:
                raise StartError(
                    f"no credentials for Google Cloud Storage: the metadata server {host} does not answer ({error})",
                    "pass a key file (credential_path=), or use a local folder as the artifact",
                ) from error
        time.sleep(0.25 * 2**attempt)
    raise AssertionError


def _of_key_file() -> str:
    try:
        import google.auth
        import google.auth.exceptions
        import google.auth.transport.requests
    except ImportError as error:
        raise MissingExtra("google-auth", "gcs") from error
    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        credentials.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
    except google.auth.exceptions.GoogleAuthError as error:
        raise StartError(
            f"the key file of GOOGLE_APPLICATION_CREDENTIALS gives no token: {error}", "pass a key that is in force"
        ) from error
    return cast("str", credentials.token)
