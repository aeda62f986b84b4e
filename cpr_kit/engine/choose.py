"""Which engine runs things here, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.engine.protocol import Engine
from cpr_kit.errors import ConfigError, LackingError

AUTO = "auto"
VARIABLE = "CPR_ENGINE"
_PLAIN = "process: a process of this machine for each container, as --engine or CPR_ENGINE asks"


@dataclass(frozen=True)
class Choice:
    engine: Engine
    reason: str


def choose(name: str | None = None, environ: Mapping[str, str] = os.environ) -> Choice:
    """The engine called `name`, else by CPR_ENGINE, else docker where one answers and process where none does.

    Raises ConfigError for an unknown name, EngineUnavailable when docker was asked for and is silent.
    """
    wanted = name or environ.get(VARIABLE) or AUTO
    if wanted == AUTO:
        return _first_that_answers(environ)
    if wanted not in ENGINES:
        source = "the engine" if name else VARIABLE
        raise ConfigError(f'{source} is "{wanted}"; it is one of {", ".join((AUTO, *ENGINES))}')
    return ENGINES[wanted](environ)


def _first_that_answers(environ: Mapping[str, str]) -> Choice:
    try:
        return _docker(environ)
    except LackingError as error:
        lack = str(error).partition(";")[0]
        return Choice(ProcessEngine(environ), f"process: no container engine answers ({lack})")


def _docker(environ: Mapping[str, str]) -> Choice:
    engine = DockerEngine(environ)
    return Choice(engine, f"docker: engine {engine.version} answers")


def _process(environ: Mapping[str, str]) -> Choice:
    return Choice(ProcessEngine(environ), _PLAIN)


ENGINES: Mapping[str, Callable[[Mapping[str, str]], Choice]] = {"docker": _docker, "process": _process}
