"""Everything the model server reads from its environment, read once."""

from __future__ import annotations

import math
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cpr_kit.contract import DIGEST, LOG_FORMAT, MAX_BODY, EndpointKind, Reference, ServingEnv
from cpr_kit.errors import StartError

LogFormat = Literal["json", "text"]

_MAX_DIGITS = 18


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is served, and where. HANDLER_* and PREDICTOR_* are the names upstream's images use too."""

    serving: ServingEnv = field(default_factory=ServingEnv)
    host: str = "0.0.0.0"  # noqa: S104  Vertex AI asks for all interfaces
    handler: Reference | None = None
    predictor: Reference | None = None
    preprocessor: Reference | None = None
    app: Reference | None = None  # an ASGI application of the author's own, in place of the three above
    trusted: bool = False
    trusted_digests: tuple[str, ...] = ()  # of pickles that load all the same: "sha256:" and 64 hexadecimal digits
    # From here on, each is the key of its name in [serve] of cpr.toml and the variable CPR_SERVE_<NAME>.
    max_batch_rows: int | None = None  # the predictor's own, where None
    max_batch_delay: float = 0.0  # seconds
    request_timeout: float = 60.0  # seconds, from arrival to last byte
    max_queue: int = 1024  # requests that wait
    endpoint_kind: EndpointKind = "public"
    max_body: int = 0  # bytes; the endpoint kind's own, where 0
    warmup: tuple[str, ...] = ()  # files of requests, relative to the working directory
    metrics: bool = False
    log_format: LogFormat | None = None  # text on a terminal and JSON elsewhere, where None

    def __post_init__(self) -> None:
        if not self.max_body:
            object.__setattr__(self, "max_body", MAX_BODY[self.endpoint_kind])

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises StartError with the variable's name and value."""
        return cls(
            serving=_serving(environ),
            host=environ.get("CPR_SERVE_HOST") or cls.host,
            handler=_reference("HANDLER", environ),
            predictor=_reference("PREDICTOR", environ),
            preprocessor=_reference("PREPROCESSOR", environ),
            app=_application(environ),
            trusted=_flag("CPR_MODEL_TRUSTED", environ),
            trusted_digests=_digests("CPR_MODEL_TRUSTED_DIGESTS", environ),
            max_batch_rows=_count("CPR_SERVE_MAX_BATCH_ROWS", environ),
            max_batch_delay=_seconds("CPR_SERVE_MAX_BATCH_DELAY", environ, cls.max_batch_delay),
            request_timeout=_timeout("CPR_SERVE_REQUEST_TIMEOUT", environ, cls.request_timeout),
            max_queue=_count("CPR_SERVE_MAX_QUEUE", environ) or cls.max_queue,
            endpoint_kind=_choice("CPR_SERVE_ENDPOINT_KIND", environ, EndpointKind) or cls.endpoint_kind,
            max_body=_count("CPR_SERVE_MAX_BODY", environ) or cls.max_body,
            warmup=tuple(path for path in environ.get("CPR_SERVE_WARMUP", "").split(",") if path),
            metrics=_flag("CPR_SERVE_METRICS", environ),
            log_format=_choice(LOG_FORMAT, environ, LogFormat),
        )


def _serving(environ: Mapping[str, str]) -> ServingEnv:
    """AIP_STORAGE_URI is empty for a model version without artifacts; then the one in the image is served."""
    serving = ServingEnv.from_environ(environ)
    baked = environ.get("CPR_IMAGE_BAKE", "")
    # Absolute: the author's code may go to another folder before it loads.
    return replace(serving, storage_uri=str(Path(baked).resolve())) if baked and not serving.storage_uri else serving


def _reference(kind: str, environ: Mapping[str, str]) -> Reference | None:
    module, name = environ.get(f"{kind}_MODULE", ""), environ.get(f"{kind}_CLASS", "")
    if bool(module) != bool(name):
        present, absent = ("MODULE", "CLASS") if module else ("CLASS", "MODULE")
        raise StartError(
            f"{kind}_{present} is set and {kind}_{absent} is not",
            f'set both, or name the class in cpr.toml: {kind.lower()} = "module:Class"',
        )
    return Reference(module, name) if module else None


def _application(environ: Mapping[str, str]) -> Reference | None:
    text = environ.get("CPR_MODEL_APP", "")
    module, _, name = text.partition(":")
    if text and not (module and name):
        raise StartError(f'CPR_MODEL_APP is "{text}"', 'set it to "module:name", or unset it')
    served = [kind for kind in ("PREDICTOR", "HANDLER") if environ.get(f"{kind}_MODULE")]
    if text and served:
        raise StartError(f"CPR_MODEL_APP and {served[0]}_MODULE are both set", "unset the one that is not to be served")
    return Reference(module, name) if text else None


def _digests(name: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    digests = tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())
    for digest in digests:
        if not DIGEST.fullmatch(digest):
            raise StartError(f'{name} has "{digest}"', 'each is "sha256:" and 64 lower-case hexadecimal digits')
    return digests


def _flag(name: str, environ: Mapping[str, str]) -> bool:
    text = environ.get(name, "").lower()
    if text not in ("", "0", "1", "false", "true"):
        raise StartError(f'{name} is "{text}"', "set it to true or false")
    return text in ("1", "true")


def _count(name: str, environ: Mapping[str, str]) -> int | None:
    text = environ.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > _MAX_DIGITS or not int(text):
        raise StartError(f'{name} is "{text}"', "set it to a whole number from 1 up, or unset it")
    return int(text)


def _seconds(name: str, environ: Mapping[str, str], default: float) -> float:
    text = environ.get(name, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise StartError(f'{name} is "{text}"', "set it to a number of seconds, or unset it")
    return seconds


def _timeout(name: str, environ: Mapping[str, str], default: float) -> float:
    seconds = _seconds(name, environ, default)
    if not seconds:
        raise StartError(f'{name} is "{environ[name]}"', "set it to more than 0 seconds, or unset it")
    return seconds


def _choice(name: str, environ: Mapping[str, str], kind: Any) -> Any:
    """One of the words of a Literal; None where the variable is not set."""
    text = environ.get(name, "")
    words = typing.get_args(kind)
    if text and text not in words:
        raise StartError(f'{name} is "{text}"', f"set it to {' or '.join(words)}, or unset it")
    return text or None
