"""Package index settings of this machine, for pip inside a build: never for the image that comes out of it."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from cpr_kit.errors import ConfigError

TARGET = "/index"
"""Where the templates put the folder while they install."""
CONFIG = "pip.conf"
BUNDLE = "ca.pem"

_LISTS = ("extra-index-url", "trusted-host", "find-links")
_SINGLE = ("index-url", "timeout", "proxy")
_URLS = ("index-url", "extra-index-url", "find-links")
_REMOTE = re.compile(r"https?://", re.IGNORECASE)
_SECTIONS = ("global", "install")


def write(folder: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Put pip.conf, and ca.pem where this machine has a CA bundle of its own, into the folder."""
    found = settings(environ)
    bundle = certificates(found, environ)
    if bundle is not None:
        shutil.copyfile(bundle, folder / BUNDLE)
    (folder / CONFIG).write_text(text(found, bundle is not None), "utf-8")


def text(found: Mapping[str, str], has_bundle: bool) -> str:
    """pip.conf with what holds inside a container: what names a path of this machine is left out."""
    lines = ["[global]"]
    for name in (*_SINGLE, *_LISTS):
        words = found.get(name, "").split()
        if name in _URLS:
            words = [word for word in words if _REMOTE.match(word)]
        if words:
            lines.append(f"{name} = " + "\n    ".join(words))
    if has_bundle:
        lines.append(f"cert = {TARGET}/{BUNDLE}")
    return "\n".join(lines) + "\n"


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
