"""Upstream's `Handler`, whose `__init__` leaves loading to those who derive from it and call it."""

from __future__ import annotations

from typing import Any

from cpr_kit.runtime import handler


class Handler(handler.Handler):
    """The kit's own would load the predictor a second time, for a handler that does so itself after `super()`."""

    def __init__(self, artifacts_uri: str, predictor: type[Any] | None = None) -> None:
        loads_itself = type(self).__init__ is not Handler.__init__
        super().__init__(artifacts_uri, None if loads_itself else predictor)


# As it is with upstream's.
Handler.register(handler.PredictionHandler)
