"""What in cpr.toml goes together: nothing that is written there may be without effect, and silent about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import PurePosixPath
from typing import Any

from cpr_kit.config import Config, ImageSection, ModelSection, ServeSection
from cpr_kit.errors import ConfigError
from cpr_kit.serving_spec import FOREIGN, is_foreign

APP = "fastapi"
"""The template of the user's own ASGI application."""

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]*\Z")
_BAKED = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*/?\Z", re.ASCII)
_CLASSES = ("predictor", "preprocessor", "handler")
_OF_AN_APP = ("workers", "request_timeout", "endpoint_kind", "max_body", "log_format")


def template(config: Config) -> str:
    """The template's name. An application gets its own where only the default was there to choose."""
    named = config.image.template
    return APP if config.model.app is not None and named == ImageSection.template else named


def check(config: Config) -> None:
    """Raises ConfigError for keys that exclude each other, naming them."""
    if not _IMAGE.match(config.image.base):
        raise ConfigError(f"[image] base is {config.image.base!r}, which is no name of an image")
    _check_bake(config)
    if config.image.dockerfile is not None:
        return
    if is_foreign(config):
        _check_foreign(config)
        return
    started = [key for key in ("command", "args") if getattr(config.image, key)]
    if started:
        raise ConfigError(
            f"[image] {' and '.join(started)} is for an image with a server of its own: "
            f'set [image] template = "{FOREIGN}", or dockerfile; the kit\'s own entry point takes no arguments'
        )
    if config.model.app is not None:
        _check_app(config)
    elif config.image.template == APP:
        raise ConfigError(f'[image] template "{APP}" serves an application; name it: [model] app = "module:name"')


def _check_bake(config: Config) -> None:
    named = config.image.bake
    if named is None:
        return
    if not _BAKED.match(named):
        raise ConfigError(
            f'[image] bake (CPR_IMAGE_BAKE) is "{named}"; it is a folder of the project, as "model/", and its name has '
            "letters, digits, dots, hyphens and underscores"
        )
    if config.image.dockerfile is not None:
        raise ConfigError(
            f"[image] bake and dockerfile are both set; your own Dockerfile copies the model itself: "
            f"COPY {named} /usr/app/{PurePosixPath(named)}/"
        )
    if is_foreign(config):
        raise ConfigError(f'[image] bake and template = "{FOREIGN}" are both set; no layer is added to a foreign image')


def _check_app(config: Config) -> None:
    beside = _said(config.model, (*_CLASSES, "trusted", "trusted_digests"))
    if beside:
        raise ConfigError(
            f"[model] app and {' and '.join(beside)} are both set; an application loads and calls its model itself, "
            "so keep one of them"
        )
    without_effect = [name for name in _said(config.serve) if name not in _OF_AN_APP]
    if without_effect:
        raise ConfigError(
            f"[serve] {' and '.join(without_effect)} is for predictors; with [model] app, "
            f"{', '.join(_OF_AN_APP)} have an effect, and the rest is the application's own affair"
        )


def _check_foreign(config: Config) -> None:
    if config.image.base == ImageSection.base:
        raise ConfigError(f'[image] template "{FOREIGN}" needs the image that has the server: base = "IMAGE"')
    keys = [f"[model] {name}" for name in _said(config.model) if name != "artifacts"]
    keys += [f"[serve] {name}" for name in _said(config.serve)]
    if keys:
        raise ConfigError(
            f'{" and ".join(keys)} has no effect with [image] template "{FOREIGN}", whose server is not the kit\'s; '
            "remove it, or say it in command, args or env"
        )


def _said(section: ModelSection | ServeSection, names: Iterable[str] | None = None) -> list[str]:
    """The keys that are set to something else than their default."""
    defaults: dict[str, Any] = {each.name: each.default for each in fields(section)}
    return [name for name in names or defaults if getattr(section, name) != defaults[name]]
