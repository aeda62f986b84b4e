"""Names of images at registries: HOST/REPOSITORY:TAG or @DIGEST, and where such a name is really asked for."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cpr_kit.contract import DIGEST
from cpr_kit.engine.registry import ENGINE, emulated
from cpr_kit.errors import ConfigError

HUB = "docker.io"
_HUB_API = "registry-1.docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
# Domain-scoped projects ("example.com:project") write their colon as a slash in an image's name.
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REPOSITORY_SLASHES = 2
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Name:
    """A reference in parts. `tag` and `digest` are None where the reference names none."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, reference: str) -> Name:
        """Raises ConfigError. A name without a host is Docker Hub's, as for `docker pull`."""
        rest, at, digest = reference.partition("@")
        head, slash, last = rest.rpartition("/")
        last, colon, tag = last.partition(":")
        host, _, repository = (head + slash + last).partition("/")
        if not repository or not ("." in host or ":" in host or host == "localhost"):
            host, repository = HUB, head + slash + last
        if host in (HUB, "index.docker.io"):
            host, repository = HUB, repository if "/" in repository else f"library/{repository}"
        if at and not DIGEST.fullmatch(digest):
            raise ConfigError(f'"{reference}" is no image: a digest is "sha256:" and 64 hexadecimal digits')
        if not _REPOSITORY.fullmatch(repository) or (colon and not _TAG.fullmatch(tag)):
            raise ConfigError(f'"{reference}" is no image; one is written HOST/REPOSITORY:TAG, or @sha256:...')
        return cls(host, repository, tag or None, digest or None)

    @property
    def version(self) -> str:
        """What a manifest is asked for by."""
        return self.digest or self.tag or "latest"

    @property
    def path(self) -> str:
        """Without tag and digest."""
        return f"{self.host}/{self.repository}"

    @property
    def is_local(self) -> bool:
        """On this machine: without TLS, as container engines ask such registries."""
        name = self.host.rpartition(":")[0] if ":" in self.host else self.host
        if name == "localhost":
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """The root of the registry's API for this repository."""
        host = _HUB_API if self.host == HUB else self.host
        return f"{'http' if self.is_local else 'https'}://{host}/v2/{self.repository}"

    def at(self, version: str) -> Name:
        """Of the same repository, by tag or digest."""
        if version.startswith("sha256:"):
            return replace(self, tag=None, digest=version)
        return replace(self, tag=version, digest=None)

    def __str__(self) -> str:
        return self.path + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def aimed(to: str, image: str) -> str:
    """`--to` as a whole name: a repository of Artifact Registry, or what ends in a slash, gets the image's own name.

    >>> aimed("europe-west4-docker.pkg.dev/p/serving", "us-central1-docker.pkg.dev/p/serving/iris:1")
    'europe-west4-docker.pkg.dev/p/serving/iris:1'
    >>> aimed("127.0.0.1:5000/iris", "iris:1")
    '127.0.0.1:5000/iris:1'
    """
    source = Name.parse(image)
    is_repository = to.partition("/")[0].endswith("-docker.pkg.dev") and to.count("/") == _REPOSITORY_SLASHES
    if to.endswith("/") or is_repository:
        to = f"{to.rstrip('/')}/{source.repository.rpartition('/')[2]}"
    target = Name.parse(to)
    if target.host == HUB and not to.startswith(HUB):
        raise ConfigError(f'"{to}" names no registry; write HOST/..., or {HUB}/{to} for Docker Hub')
    return str(target if target.tag or target.digest or not source.tag else target.at(source.tag))


def stays_in_engine(reference: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Under `cpr emulate` without a registry program, an image of Artifact Registry is the engine's own."""
    return emulated(reference, environ) == ENGINE


def asked_at(reference: str, environ: Mapping[str, str] = os.environ) -> Name:
    """The name under which a registry is asked: under `cpr emulate` that is the emulator's own, HOST:PORT."""
    name = Name.parse(reference)
    where = emulated(reference, environ)
    return name if where in (None, ENGINE) else replace(name, host=str(where), repository=name.path)
