"""What a model declares about its instances."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The checks of `instances.array`. What is None is not checked.

    features: values in an instance.
    names: the features' names, in the model's order; instances may then be objects as well as lists.
    allow_missing: null and NaN are values that the model takes; infinities never are.
    dtype: a numpy type, such as "float32" or "int64": numbers alone, and none that it cannot hold; "object": as they
    were sent. None: float64, and objects where there is text.
    """

    features: int | None = None
    names: tuple[str, ...] | None = None
    allow_missing: bool = False
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.names is None:
            return
        if self.features is None:
            object.__setattr__(self, "features", len(self.names))
        elif self.features != len(self.names):
            raise ValueError(f"a signature of {self.features} features names {len(self.names)}")


ANY = Signature()
