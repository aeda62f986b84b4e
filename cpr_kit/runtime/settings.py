"""Everything the model server reads from its environment, read once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cpr_kit.contract import Reference, ServingEnv
from cpr_kit.errors import StartError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is served, and where. HANDLER_* and PREDICTOR_* are the names upstream's images use too."""

    serving: ServingEnv = field(default_factory=ServingEnv)
    host: str = "0.0.0.0"  # noqa: S104  Vertex AI asks for all interfaces
    handler: Reference | None = None
    predictor: Reference | None = None
    preprocessor: Reference | None = None
    trusted: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises StartError with the variable's name and value."""
        return cls(
            serving=ServingEnv.from_environ(environ),
            host=environ.get("CPR_SERVE_HOST") or cls.host,
            handler=_reference("HANDLER", environ),
            predictor=_reference("PREDICTOR", environ),
            preprocessor=_reference("PREPROCESSOR", environ),
            trusted=_flag("CPR_MODEL_TRUSTED", environ),
        )


def _reference(kind: str, environ: Mapping[str, str]) -> Reference | None:
    module, name = environ.get(f"{kind}_MODULE", ""), environ.get(f"{kind}_CLASS", "")
    if bool(module) != bool(name):
        present, absent = ("MODULE", "CLASS") if module else ("CLASS", "MODULE")
        raise StartError(
            f"{kind}_{present} is set and {kind}_{absent} is not",
            f'set both, or name the class in cpr.toml: {kind.lower()} = "module:Class"',
        )
    return Reference(module, name) if module else None


def _flag(name: str, environ: Mapping[str, str]) -> bool:
    text = environ.get(name, "").lower()
    if text not in ("", "0", "1", "false", "true"):
        raise StartError(f'{name} is "{text}"', "set it to true or false")
    return text in ("1", "true")
