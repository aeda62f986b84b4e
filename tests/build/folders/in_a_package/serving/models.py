import typing

from cpr_kit import SklearnPredictor

T = typing.TypeVar("T")


class Model(SklearnPredictor, typing.Generic[T]):
    pass
