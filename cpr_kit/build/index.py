"""Package index settings of this machine, for pip and uv inside a build: never for the image that comes out of it."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from cpr_kit.errors import ConfigError

TARGET = "/index"
"""Where the templates put the folder while they install."""
CONFIG = "pip.conf"
BUNDLE = "ca.pem"
UV_CONFIG = "uv.toml"
UV_VARIABLES = "uv.sh"
"""What uv reads from its environment alone, to be sourced by a shell."""

_LISTS = ("extra-index-url", "trusted-host", "find-links")
_SINGLE = ("index-url", "timeout", "proxy")
_URLS = ("index-url", "extra-index-url", "find-links")
_UV_LISTS = {"extra-index-url": "extra-index-url", "find-links": "find-links", "trusted-host": "allow-insecure-host"}
_REMOTE = re.compile(r"https?://", re.IGNORECASE)
_SECTIONS = ("global", "install")


def write(folder: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Put pip.conf, uv's settings, and ca.pem where this machine has a CA bundle of its own, into the folder."""
    found = settings(environ)
    bundle = certificates(found, environ)
    if bundle is not None:
        shutil.copyfile(bundle, folder / BUNDLE)
    inside = f"{TARGET}/{BUNDLE}" if bundle is not None else None
    (folder / CONFIG).write_text(text(found, inside), "utf-8")
    (folder / UV_CONFIG).write_text(uv_text(found), "utf-8")
    variables = uv_variables(found, inside).items()
    (folder / UV_VARIABLES).write_text(
        "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables), "utf-8"
    )


def is_blank(folder: Path) -> bool:
    """Whether the folder is one that `write` made without any settings, and nobody has written some into it."""
    path = folder / CONFIG
    return path.is_file() and path.read_text("utf-8") == text({}, None)


def text(found: Mapping[str, str], bundle: str | None) -> str:
    """pip.conf with what holds inside a container: what names a path of this machine is left out."""
    lines = ["[global]"]
    for name in (*_SINGLE, *_LISTS):
        words = _words(found, name)
        if words:
            lines.append(f"{name} = " + "\n    ".join(words))
    if bundle is not None:
        lines.append(f"cert = {bundle}")
    return "\n".join(lines) + "\n"


def uv_text(found: Mapping[str, str]) -> str:
    """uv.toml that says the same. pip takes the best version of all indexes, and so does uv then."""
    values: dict[str, str | list[str]] = {"index-strategy": "unsafe-best-match"}
    if index := _words(found, "index-url"):
        values["index-url"] = index[0]
    for name, ours in _UV_LISTS.items():
        if words := _words(found, name):
            values[ours] = words
    # A TOML string may be written as JSON writes one.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def uv_variables(found: Mapping[str, str], bundle: str | None) -> dict[str, str]:
    variables = {}
    if bundle is not None:
        variables["SSL_CERT_FILE"] = bundle
    if seconds := found.get("timeout"):
        variables["UV_HTTP_TIMEOUT"] = seconds.partition(".")[0]
    if proxy := found.get("proxy"):
        variables |= {"http_proxy": proxy, "https_proxy": proxy}
    return variables


def _words(found: Mapping[str, str], name: str) -> list[str]:
    words = found.get(name, "").split()
    return [word for word in words if _REMOTE.match(word)] if name in _URLS else words


def settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What pip is told here, as `pip config list` merges them: files from afar to near, then PIP_* variables."""
    found: dict[str, str] = {}
    if environ.get("PIP_CONFIG_FILE") != os.devnull:
        files = [_parsed(path) for path in _files(environ) if path.is_file()]
        for section in _SECTIONS:
            for file in files:
                found |= file.get(section, {})
    return found | {_option(name[4:]): value for name, value in environ.items() if name.startswith("PIP_") and value}


def certificates(found: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> Path | None:
    """The bundle of certificate authorities that this machine's programs are told to trust."""
    named = (found.get("cert"), environ.get("REQUESTS_CA_BUNDLE"), environ.get("SSL_CERT_FILE"))
    return next((Path(name) for name in named if name and Path(name).is_file()), None)


def proxies(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The proxy variables that builders predefine as build arguments and keep out of an image's history."""
    names = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    spelled = [spelling for name in names for spelling in (name, name.upper())]
    return {name: environ[name] for name in spelled if environ.get(name)}


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    home = Path(environ.get("HOME") or Path.home())
    for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield Path(folder) / "pip" / CONFIG
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip") / CONFIG
    yield Path("/etc") / CONFIG
    named = Path(environ.get("PIP_CONFIG_FILE") or os.devnull)
    if not named.is_file():  # pip: a file named there takes the place of the user's
        yield from _users_files(home, environ)
    yield Path(sys.prefix) / CONFIG
    yield named


def _users_files(home: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    yield home / ".pip" / CONFIG
    if sys.platform == "darwin" and (home / "Library/Application Support/pip").is_dir():
        yield home / "Library/Application Support/pip" / CONFIG
    else:
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / CONFIG


def _parsed(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ConfigError(f"pip's configuration {path} cannot be read: {error}") from error
    return {section: {_option(name): value for name, value in parser.items(section)} for section in parser.sections()}


def _option(name: str) -> str:
    """A setting's name as pip compares it; --default-timeout is an older spelling of --timeout."""
    option = name.lower().replace("_", "-").removeprefix("--")
    return "timeout" if option == "default-timeout" else option
