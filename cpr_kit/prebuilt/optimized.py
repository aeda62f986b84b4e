"""Presets of Vertex AI's TensorFlow images: the standard one, and the optimized runtime, lossless or lossy.

"Use the optimized TensorFlow runtime", and the tutorial get_started_with_optimized_tfe_bert of 2022, which has the
runtime under its first name, with its first flags.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from cpr_kit.contract import ContainerSpec
from cpr_kit.errors import ConfigError
from cpr_kit.prebuilt import catalogue

Preset = Literal["standard", "lossless", "lossy"]
FLAGS = ("allow_precompilation", "allow_compression", "use_tfrt", "disable_optimizer")
"""The runtime's own, beside those of TensorFlow Serving."""
RENAMED = {"allow_precision_affecting_optimizations": "allow_compression"}
"""Old flag -> the one that took its place."""
SERVED = "cpr-kit.optimizations"
"""An image's label: those of `FLAGS` that it has a counterpart of, as `containers/tf_serving` says it of itself."""

_STANDARD_VERSION = "2-15"
_ALPHA = "alpha"
_LOSSY = "allow_compression"
_PRECOMPILED = "allow_precompilation"


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A specification, and what was changed on the way to it."""

    prebuilt: catalogue.Prebuilt
    spec: ContainerSpec
    notes: tuple[str, ...] = ()


def preset(
    name: Preset,
    *,
    version: str | None = None,
    accelerator: str = "cpu",
    region: str = "us-central1",
    model_name: str | None = None,
    args: Sequence[str] = (),
) -> Chosen:
    """The image and its arguments. Raises ConfigError.

    `version` is "2-15" by default for the standard image, "nightly" for the runtime; "alpha" is the runtime of 2022,
    with the flags of then. With `model_name` the routes are named too, which need not be: Vertex AI has its own.
    `args` are added; old names of flags among them are replaced, with a note.
    """
    prebuilt = _prebuilt(name, version, accelerator)
    is_alpha = prebuilt.version == _ALPHA
    own = [] if name == "standard" else [_flag(_PRECOMPILED, True), _flag(_LOSSY, name == "lossy")]
    added, notes = modern(args)
    if is_alpha:
        own = [_renamed(each, {new: old for old, new in RENAMED.items()}) for each in own]
        added, notes = tuple(args), ()
    _check_added(own, added, name)
    spec = prebuilt.spec(region)
    named = []
    if model_name is not None:
        named = [f"--model_name={model_name}"]
        route = f"/v1/models/{model_name}"
        spec = replace(spec, health_route=route, predict_route=f"{route}:predict")
    return Chosen(prebuilt=prebuilt, spec=replace(spec, args=(*named, *own, *added)), notes=notes)


def modern(args: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Arguments with today's names of flags, and a note for each that was replaced.

    >>> modern(["--allow_precision_affecting_optimizations=true"])[0]
    ('--allow_compression=true',)
    """
    found = tuple(_renamed(each, RENAMED) for each in args)
    notes = tuple(
        f"{old.partition('=')[0]} is an old name; it was replaced by {new.partition('=')[0]}"
        for old, new in zip(args, found, strict=True)
        if old != new
    )
    return found, notes


def split(args: Sequence[str], served: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Arguments for another server than the runtime, and what it has no counterpart of; `served` is its `SERVED`.

    A flag that is off needs none: without it the server is as it says.
    """
    known = set(served.split(","))
    kept, lacking = [], []
    for each in modern(args)[0]:
        name, _, value = each.removeprefix("--").partition("=")
        if name not in FLAGS or name in known:
            kept.append(each)
        elif value.lower() not in {"false", "0"}:
            lacking.append(each)
    return tuple(kept), tuple(lacking)


def _prebuilt(name: str, version: str | None, accelerator: str) -> catalogue.Prebuilt:
    if name not in get_args(Preset):
        near = difflib.get_close_matches(name, get_args(Preset), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(get_args(Preset))}"
        raise ConfigError(f'there is no preset "{name}"; {hint}')
    if name == "standard":
        return catalogue.for_framework("tensorflow", version or _STANDARD_VERSION, accelerator)
    if version == _ALPHA:
        return catalogue.find(catalogue.ALPHA)
    return catalogue.find(f"tf_opt-{accelerator}.{(version or 'nightly').replace('.', '-')}")


def _flag(name: str, value: bool) -> str:
    return f"--{name}={'true' if value else 'false'}"


def _renamed(arg: str, names: dict[str, str]) -> str:
    flag, equals, value = arg.partition("=")
    new = names.get(flag.removeprefix("--"))
    return f"--{new}{equals}{value}" if flag.startswith("--") and new else arg


def _check_added(own: Sequence[str], added: Sequence[str], name: str) -> None:
    given = {each.partition("=")[0]: each for each in own}
    for each in added:
        flag = each.partition("=")[0]
        if flag in given and each != given[flag]:
            raise ConfigError(f"the preset {name} has {given[flag]}, and the arguments say {each}; leave one out")
        own_flag = flag.removeprefix("--")
        if name == "standard" and own_flag in (*FLAGS, *RENAMED):
            raise ConfigError(
                f"{each} is a flag of the optimized runtime, and the preset standard is without it; "
                "choose lossless or lossy"
            )
