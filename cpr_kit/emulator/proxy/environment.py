"""The variables that lead a program's Google Cloud calls to the emulator, and the files that they name."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cpr_kit.emulator.proxy import credentials, tokens
from cpr_kit.emulator.proxy.certificates import MARKER, authority
from cpr_kit.engine import choose, registry

_TOKEN_LIFETIME_S = 30 * 24 * 3600  # a shell that is set stays so for days
_LOCAL_NAMES = "localhost,127.0.0.1,::1"
_PROGRAMS = "CPR_EMULATOR_PROGRAMS"
_BEFORE = "CPR_BEFORE"
"""Set in a shell whose own values are kept, each under this name and its own."""
_PATH_WITHOUT = f'${{PATH#"${_PROGRAMS}":}}'
_BUNDLE_VARIABLES = (
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    "HTTPLIB2_CA_CERTS",  # google-api-python-client
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
)


@dataclass(frozen=True, kw_only=True)
class Files:
    """What the variables name: the roots to trust, and the service account's key."""

    bundle: Path
    key: Path
    project: str
    """The one that the key belongs to."""

    @classmethod
    def write(cls, folder: Path, project: str, environ: Mapping[str, str] = os.environ) -> Files:
        """Write them to `folder`; slow the first time (an RSA key)."""
        files = cls(bundle=folder / "bundle.pem", key=folder / "credentials.json", project=project)
        authority().bundle(files.bundle, environ)
        credentials.write(files.key, project)
        return files


@dataclass(frozen=True, kw_only=True)
class Images:
    """The engine that the emulator has, and where its images are pushed: HOST:PORT, or "engine"."""

    engine: str
    registry: str
    programs: Path | None
    """The folder of the emulator's own `docker`; before all others on PATH."""


def variables(
    *, proxy_url: str, plain_url: str, files: Files, project: str | None = None, images: Images | None = None
) -> dict[str, str]:
    """The environment of a program under the emulator; what stands in it replaces what was there, also no_proxy.

    `plain_url` answers the REST calls, the storage's and the metadata server's without TLS. `project`: where given,
    programs that ask the environment for one get this one; else the key's. `images`: where the kit builds and pushes.
    """
    metadata = urlsplit(plain_url).netloc
    proxy = urlsplit(proxy_url)
    found = {
        MARKER: plain_url,
        # gRPC reads lower case alone, some programs upper case; grpc_proxy would go before both.
        **_both_cases("https_proxy", proxy_url),
        **_both_cases("http_proxy", proxy_url),  # private endpoints and the metadata server have no TLS
        **_both_cases("no_proxy", _LOCAL_NAMES),
        "grpc_proxy": proxy_url,
        "no_grpc_proxy": _LOCAL_NAMES,
        **dict.fromkeys(_BUNDLE_VARIABLES, str(files.bundle)),
        "GOOGLE_APPLICATION_CREDENTIALS": str(files.key),
        "GOOGLE_API_USE_CLIENT_CERTIFICATE": "false",
        "STORAGE_EMULATOR_HOST": plain_url,
        # google-auth asks the metadata server past every proxy.
        "GCE_METADATA_HOST": metadata,
        "GCE_METADATA_ROOT": metadata,
        "GCE_METADATA_IP": metadata,
        # gcloud: its own account stays out of this, and so do the hosts that only gcloud itself asks.
        "CLOUDSDK_AUTH_ACCESS_TOKEN": _token(files.project),
        "CLOUDSDK_PROXY_TYPE": "http",
        "CLOUDSDK_PROXY_ADDRESS": proxy.hostname or "",
        "CLOUDSDK_PROXY_PORT": str(proxy.port or ""),
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
    }
    if project is not None:
        found |= {"GOOGLE_CLOUD_PROJECT": project, "CLOUDSDK_CORE_PROJECT": project}
    if images is not None:
        found |= {choose.VARIABLE: images.engine, registry.VARIABLE: images.registry}
        if images.programs is not None:
            path = os.environ.get("PATH", os.defpath)
            found |= {_PROGRAMS: str(images.programs), "PATH": f"{images.programs}{os.pathsep}{path}"}
    return found


def shell_lines(variables: Mapping[str, str]) -> str:
    """For `eval "$(...)"` in any POSIX shell, which keeps a PATH of its own behind the emulator's programs.

    What the variables were stays in the shell for `unset_lines`, however often these lines are read before.
    """
    names = [name for name in variables if name != "PATH"]
    kept = [f'[ -n "${{{_BEFORE}:-}}" ] || {_unless_set(name)} || export {_old(name)}="${name}"\n' for name in names]
    lines = [f"export {name}={shlex.quote(variables[name])}\n" for name in names]
    if _PROGRAMS in variables:
        lines.append(f'export PATH="${_PROGRAMS}:{_PATH_WITHOUT}"\n')
    return "".join([*kept, f"export {_BEFORE}=kept\n", *lines])


def unset_lines() -> str:
    """Gives a shell back what it had before `shell_lines`; changes nothing in one that never read them."""
    files = Files(bundle=Path(), key=Path(), project="any")
    images = Images(engine="any", registry="any", programs=Path())
    names = variables(proxy_url="http://any", plain_url="http://any", files=files, project="any", images=images)
    path = f'[ -z "${{{_PROGRAMS}:-}}" ] || export PATH="{_PATH_WITHOUT}"\n'
    lines = [
        f'unset {name}\n{_unless_set(_old(name))} || export {name}="${_old(name)}"\nunset {_old(name)}\n'
        for name in names
        if name != "PATH"
    ]
    return f'if [ -n "${{{_BEFORE}:-}}" ]; then\n{path}{"".join(lines)}unset {_BEFORE}\nfi\n'


def _old(name: str) -> str:
    return f"{_BEFORE}_{name}"


def _unless_set(name: str) -> str:
    """A test for `... || COMMAND`, which runs the command where the variable is set, if only to nothing."""
    return f'[ -z "${{{name}+set}}" ]'


def _both_cases(name: str, value: str) -> dict[str, str]:
    return {name: value, name.upper(): value}


def _token(project: str) -> str:
    return tokens.access_token(credentials.email_of(project), lifetime_s=_TOKEN_LIFETIME_S)
