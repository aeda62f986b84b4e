"""Micro-batching: what waits goes together, and nobody pays for another's mistake.

The whole rule, free of threads and clocks: members whose rows may be joined are predicted in one call, and
a batch that fails is halved until the one member that is at fault stands alone. So each gets what it would
have got alone. The pipeline decides what waits.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from cpr_kit.runtime import rows

logger = logging.getLogger("cpr_kit")


class Member(Protocol):
    """Something whose `value` wants to be predicted, unless it has been abandoned. Gets an answer or an error."""

    value: Any
    abandoned: bool
    answer: Any
    error: Exception | None


_M = TypeVar("_M", bound=Member)


class Batcher(Generic[_M]):
    """Predicts for members, at most `max_rows` rows a call; a larger member goes alone, whole.

    `settled` gets the members of each call as soon as they have their answer or error.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[_M], Any], Awaitable[Any]],
        settled: Callable[[Sequence[_M]], Awaitable[None]],
        max_rows: int,
    ) -> None:
        self.max_rows = max_rows
        self._predict = predict
        self._settled = settled

    async def run(self, members: Sequence[_M]) -> None:
        for batch in self._batches(members):
            await self._together(batch)

    def _batches(self, members: Sequence[_M]) -> Iterator[list[_M]]:
        """Members that may share a call, in the order in which the first of each batch came."""
        open_: dict[Hashable, tuple[list[_M], int]] = {}
        for member in members:
            key = rows.key(member.value) if self.max_rows > 1 else None
            if key is None:
                yield [member]
                continue
            number = rows.count(member.value)
            batch, filled = open_.get(key, ([], 0))
            if batch and filled + number > self.max_rows:
                yield batch
                batch, filled = [], 0
            batch.append(member)
            open_[key] = (batch, filled + number)
        for batch, _ in open_.values():
            yield batch

    async def _together(self, batch: list[_M]) -> None:
        batch = [member for member in batch if not member.abandoned]
        if not batch:
            return
        try:
            await self._answer(batch)
        except Exception as error:  # noqa: BLE001  the author's code may raise anything
            if isinstance(error, rows.Unsplittable):
                self._give_up(error)
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._together(batch[:middle])
                await self._together(batch[middle:])
                return
            batch[0].error = error
        await self._settled(batch)

    async def _answer(self, batch: list[_M]) -> None:
        if len(batch) == 1:
            batch[0].answer = await self._predict(batch, batch[0].value)
            return
        answer = await self._predict(batch, rows.join([member.value for member in batch]))
        parts = rows.split(answer, [rows.count(member.value) for member in batch])
        for member, part in zip(batch, parts, strict=True):
            member.answer = part

    def _give_up(self, error: rows.Unsplittable) -> None:
        if self.max_rows > 1:
            logger.warning("requests are no longer joined: %s", error)
        self.max_rows = 1
