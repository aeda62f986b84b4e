"""Who one is to a registry: `docker login`'s file, a docker credential helper, or application-default credentials.

Nothing here is kept, and no secret is in a message.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpr_kit.engine.registry import is_googles

TOKEN_USER = "oauth2accesstoken"  # noqa: S105 - a user name
"""Artifact Registry's user name for an OAuth access token ("Configure authentication to Artifact Registry")."""
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True)
class Login:
    """Credentials, and where they came from: a name and password, or an identity token in their place."""

    source: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Found:
    """`looked` says for each place what was there; None is "log in as nobody"."""

    login: Login | None
    looked: tuple[str, ...]


def find(host: str, environ: Mapping[str, str] = os.environ) -> Found:
    """Ask each place in turn. Each call asks anew: tokens expire, and helpers renew them."""
    login, said = _docker_login(host)
    if login is not None:
        return Found(login, (said,))
    login, also = _application_default(host, environ)
    return Found(login, (said, also))


def _docker_login(host: str) -> tuple[Login | None, str]:
    """docker-py reads the file as the docker command does: auths, then credHelpers and credsStore before them."""
    try:
        import docker
        from docker import auth
        from docker.utils import config
    except ImportError:
        return None, "docker login: not read, the Python library docker is not installed"
    name = auth.INDEX_NAME if host == "docker.io" else host
    where = str(config.find_config_file() or config.config_path_from_environment() or "~/.docker/config.json")
    try:
        found: Any = None
        known = auth.load_config()
        helper = known.get_credential_store(name)
        if helper and not shutil.which(f"docker-credential-{helper}"):  # docker-py warns, and asks no further
            return None, f"docker login: {where} names docker-credential-{helper}, which is not installed"
        found = known.resolve_authconfig(name)
    except (docker.errors.DockerException, OSError, ValueError, KeyError) as error:
        return None, f"docker login: {where}: {error}"
    entry = {key.lower(): value for key, value in (found or {}).items()}
    if token := entry.get("identitytoken"):
        return Login(f"docker login ({where})", identity_token=token), f"docker login: {where}"
    if entry.get("username"):
        login = Login(f"docker login ({where})", entry["username"], entry.get("password") or "")
        return login, f"docker login: {where}"
    there = f"{where} has nothing for {host}" if Path(where).exists() else f"there is no {where}"
    return None, f"docker login: {there}"


def _application_default(host: str, environ: Mapping[str, str]) -> tuple[Login | None, str]:
    name = "application-default credentials"
    if not is_googles(f"{host}/"):
        return None, f"{name}: not asked, {host} is not Artifact Registry"
    try:
        import google.auth
        import google.auth.exceptions
        import google.auth.transport.requests
    except ImportError:
        return None, f"{name}: not read, the Python library google-auth is not installed"
    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        credentials.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
    except google.auth.exceptions.GoogleAuthError as error:
        return None, f"{name}: {str(error).strip().splitlines()[0]}"
    key = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    return Login(name, TOKEN_USER, credentials.token or ""), f"{name}: {key or 'of this machine'}"
