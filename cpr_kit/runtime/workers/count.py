"""How many workers: upstream's variables, over the processors that this container really has."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from cpr_kit.errors import StartError
from cpr_kit.runtime.workers import cgroup

_EXACT = "VERTEX_CPR_WEB_CONCURRENCY"
_PER_CORE = "VERTEX_CPR_WORKERS_PER_CORE"
_MOST = "VERTEX_CPR_MAX_WORKERS"
_MAX_DIGITS = 6


def cores(root: Path = Path("/"), allowed: int | None = None) -> int:
    """Processors for this process, at least 1: those it may run on (`allowed`), cut by the quota of its groups."""
    here = allowed or _allowed()
    return max(1, math.ceil(min(here, cgroup.processors(root) or here)))


def workers(environ: Mapping[str, str], cores: int) -> int:
    """Upstream's rule, with a floor of 1 where upstream has 2: there a second worker answers health while the first
    predicts, here no worker's health waits. Raises StartError naming the variable and its value.
    """
    exact = _whole(_EXACT, environ)
    if exact is not None:
        return exact
    number = max(int(cores * _positive(_PER_CORE, environ)), 1)
    most = _whole(_MOST, environ)
    return min(number, most) if most is not None else number


def is_asked(environ: Mapping[str, str]) -> bool:
    """Whether anyone said how many, rather than leaving it to the processors."""
    return bool(environ.get(_EXACT) or environ.get(_PER_CORE))


def _allowed() -> int:
    # Not on macOS, where `cpr serve` runs too.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _whole(name: str, environ: Mapping[str, str]) -> int | None:
    text = environ.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > _MAX_DIGITS or not int(text):
        raise StartError(f'{name} is "{text}"', "set it to a whole number from 1 up, or unset it")
    return int(text)


def _positive(name: str, environ: Mapping[str, str]) -> float:
    text = environ.get(name, "") or "1"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise StartError(f'{name} is "{text}"', "set it to a number above 0, or unset it")
    return number
