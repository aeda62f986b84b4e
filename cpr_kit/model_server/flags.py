"""tensorflow_model_server's command line: `--name=value`, and `--name` for what is on or off.

Names and defaults are TensorFlow Serving's (model_servers/main.cc) and, for the optimizations, those of the optimized
TensorFlow runtime. The last three are the stand-in's own: they make it serve as Vertex AI's prebuilt images do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from cpr_kit.errors import UsageError

PROGRAM = "tensorflow_model_server"
_ON = {"true": True, "1": True, "": True, "false": False, "0": False}
_LAST_PORT = 65535
_TYPES = {"int": "int32", "str": "string", "bool": "bool"}


def _flag(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class Flags:
    """One start of the server. `parse` makes it."""

    port: int = _flag(8500, "TCP port of the gRPC API, 0 for none")
    rest_api_port: int = _flag(0, "TCP port of the REST API, 0 for none")
    rest_api_num_threads: int = _flag(16, "requests that are computed at a time, over REST and over gRPC")
    rest_api_timeout_in_ms: int = _flag(30000, "the time that a REST request may take")
    model_name: str = _flag("default", "the model's name in the routes")
    model_base_path: str = _flag("", "the folder of the numbered version folders; gs:// or local")
    file_system_poll_wait_seconds: int = _flag(1, "seconds between looks for a new version; 0 looks once")
    enable_batching: bool = _flag(False, "compute requests that come at the same time in one go")
    batching_parameters_file: str = _flag("", "a BatchingParameters message as text; gs:// within the model, or local")
    enable_model_warmup: bool = _flag(True, "replay assets.extra/tf_serving_warmup_requests before a version serves")
    tensorflow_session_parallelism: int = _flag(0, "threads within and between operations, 0 to let TensorFlow choose")
    tensorflow_intra_op_parallelism: int = _flag(0, "threads within an operation, 0 to let TensorFlow choose")
    tensorflow_inter_op_parallelism: int = _flag(0, "threads between operations, 0 to let TensorFlow choose")
    allow_precompilation: bool = _flag(False, "compile each signature with XLA, once for each shape of its inputs")
    allow_compression: bool = _flag(False, "round the weights to bfloat16: answers change a little")
    allow_precision_affecting_optimizations: bool = _flag(False, "the older name of allow_compression")
    use_tfrt: bool = _flag(False, "taken, without effect here: another execution engine of the optimized runtime")
    disable_optimizer: bool = _flag(False, "neither compile nor compress, whatever the flags above say")
    unversioned: bool = _flag(False, "the base path may be a SavedModel itself, without a version folder")
    health_route: str = _flag("", "one more route for the model's status")
    predict_route: str = _flag("", "one more route for predictions")

    @property
    def compiles(self) -> bool:
        return self.allow_precompilation and not self.disable_optimizer

    @property
    def compresses(self) -> bool:
        asked = self.allow_compression or self.allow_precision_affecting_optimizations
        return asked and not self.disable_optimizer


def parse(arguments: Iterable[str]) -> Flags:
    """Raises UsageError with TensorFlow Serving's words for a flag that is unknown or has no such value."""
    known = {each.name: each for each in fields(Flags)}
    found: dict[str, Any] = {}
    for argument in arguments:
        name, separator, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in known:
            raise UsageError(f"unknown argument: {argument}")
        found[name] = _value(known[name], text if separator else None)
    flags = Flags(**found)
    if not flags.model_base_path:
        raise UsageError("--model_base_path is missing: name the folder that holds the version folders")
    for name, port in (("port", flags.port), ("rest_api_port", flags.rest_api_port)):
        if not 0 <= port <= _LAST_PORT:
            raise UsageError(f"--{name} is {port}: a TCP port is 0 to {_LAST_PORT}")
    if not flags.rest_api_port and not flags.port:
        raise UsageError("--port and --rest_api_port are both 0: nothing would be served")
    return flags


def usage() -> str:
    lines = [f"usage: {PROGRAM}", "Flags:"]
    for each in fields(Flags):
        default = each.default
        shown = str(default).lower() if isinstance(default, bool) else f'"{default}"' if default == "" else default
        lines.append(f"\t--{each.name}={shown}\t{_TYPES[str(each.type)]}\t{each.metadata['help']}")
    return "\n".join(lines)


def _value(flag: Field[Any], text: str | None) -> Any:
    kind = str(flag.type)
    if kind == "bool" and (text or "").lower() in _ON:
        return _ON[(text or "").lower()]
    if kind == "str" and text is not None:
        return text
    if kind == "int" and text is not None and text.removeprefix("-").isdecimal() and text.isascii():
        return int(text)
    raise UsageError(f"Couldn't interpret value {text or ''} for flag {flag.name}.")
