"""One batch prediction job from its input files to its output files.

Workers take batches of the input, ask a container of the model, and each writes a shard of the output
("Get batch predictions from a custom trained model"). Files, JSON and sums over rows are work for threads.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cpr_kit.emulator.batch import output
from cpr_kit.emulator.batch.inputs import Batch, Feed, Input, Storage, Supply, files
from cpr_kit.emulator.batch.readers import FORMATS
from cpr_kit.emulator.batch.requests import Answer, Ask, BatchFailed, Caller, answer_of, body, parameters_text
from cpr_kit.emulator.batch.rows import InstanceConfig
from cpr_kit.emulator.errors import ApiError, internal, invalid_argument
from cpr_kit.emulator.settings import Settings

DEFAULT_BATCH_SIZE = 64
_PARTIAL_FAILURES = 20
"""BatchPredictionJob.partial_failures "never exceeds 20 entries"; so do the warnings."""
_UNKNOWN = -1

Progress = Callable[[int, int], None]


@dataclass(kw_only=True)
class Outcome:
    state: str = "JOB_STATE_SUCCEEDED"
    output_directory: str
    successful: int = 0
    failed: int = 0
    incomplete: int = 0
    """-1: unknown, for a file could not be read to its end (CompletionStats)."""
    error: ApiError | None = None
    partial_failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """For the person at the terminal; the service does not tell them."""


async def run(
    job: Any,
    ask: Ask,
    depot: Storage,
    *,
    model_display_name: str,
    settings: Settings,
    now: datetime,
    progress: Progress | None = None,
    workers: int = 1,
    attempts: int = 3,
    backoff_s: float = 1.0,
    iso_directory: bool = False,
) -> Outcome:
    """Runs a job that `check` let through. When cancelled, writes what is there and raises CancelledError.

    `progress` gets the rows that succeeded and failed so far. A second run with the same `now` writes the
    same directory anew.
    """
    destination = job.output_config.gcs_destination.output_uri_prefix
    directory = output.directory(destination, model_display_name, now, iso=iso_directory)
    timeout_s = settings.batch_retry_elapsed_s
    caller = Caller(ask=ask, attempts=attempts, timeout_s=timeout_s, backoff_s=backoff_s)
    with tempfile.TemporaryDirectory(prefix="cpr-batch-") as folder:
        predictions_format = job.output_config.predictions_format
        written = output.Output(directory=directory, predictions_format=predictions_format, folder=Path(folder))
        threads = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="batch")
        try:
            running = _Run(job, caller, depot, written, progress=progress, threads=threads)
            await running.work(max(workers, 1))
        finally:
            # Not as a context: that would wait on the loop for what a cancelled call left in a thread.
            await _to_its_end(asyncio.to_thread(threads.shutdown))
    return running.judge(settings.batch_fail_share)


class _Run:
    def __init__(
        self,
        job: Any,
        caller: Caller,
        storage: Storage,
        written: output.Output,
        *,
        progress: Progress | None,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._job = job
        self._caller = caller
        self._storage = storage
        self._output = written
        self._progress = progress
        self._threads = threads
        self._parameters = parameters_text(job.model_parameters)
        self._calls: set[Future[Any]] = set()
        self._broken = 0
        self._stopped = False
        self._outcome = Outcome(output_directory=written.directory)

    async def work(self, workers: int) -> None:
        supply = Supply(self._input(), await self._thread(files, self._job.input_config.gcs_source.uris, self._storage))
        tasks = [asyncio.create_task(self._worker(supply)) for _ in range(supply.places(workers))]
        try:
            await asyncio.gather(*tasks)
        finally:
            await _to_its_end(self._finish(tasks, supply))

    async def _finish(self, tasks: list[asyncio.Task[None]], supply: Supply) -> None:
        # Before Python 3.12 wait_for may swallow a cancellation that meets its result; the flag holds all the same.
        self._stopped = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._thread(self._write, supply, list(self._calls))

    def _write(self, supply: Supply, calls: list[Future[Any]]) -> None:
        # Cancelling a task leaves its call in the thread, which may be in a file of the input or of the output.
        wait(calls)
        supply.close()
        self._output.write(self._storage)

    def _input(self) -> Input:
        config = self._job.input_config
        return Input(
            storage=self._storage,
            format=FORMATS[config.instances_format],
            config=InstanceConfig.of(self._job.instance_config),
            size=self._job.manual_batch_tuning_parameters.batch_size or DEFAULT_BATCH_SIZE,
        )

    async def _thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        call = self._threads.submit(function, *arguments)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return await asyncio.wrap_future(call)

    async def _worker(self, supply: Supply) -> None:
        shard: output.Shard | None = None
        while feed := supply.next_feed():
            while batch := await self._take(feed):
                shard = shard or self._output.shard()
                await self._predict(batch, shard)
            supply.finished(feed)

    async def _take(self, feed: Feed) -> Batch | None:
        return None if self._stopped else await feed.take(self._thread)

    async def _predict(self, batch: Batch, shard: output.Shard) -> None:
        for bad in batch.bad:
            shard.errors[bad.message] += 1
        self._note(batch)
        if batch.rows:
            try:
                sent = await self._thread(body, batch.rows, self._parameters)
                answer = await self._thread(_keep, shard, batch, await self._caller.post(sent))
                self._outcome.successful += len(batch.rows)
                self._warn(answer.trap)
            except BatchFailed as failure:
                shard.errors[str(failure)] += len(batch.rows)
                self._outcome.failed += len(batch.rows)
                self._warn(str(failure))
        if self._progress:
            self._progress(self._outcome.successful, self._outcome.failed)

    def _note(self, batch: Batch) -> None:
        self._outcome.failed += len(batch.bad)
        self._broken += len(batch.broken)
        if batch.broken:
            self._outcome.incomplete = _UNKNOWN
        unread = [*batch.broken, *(str(bad) for bad in batch.bad if bad.unread)]
        _add(self._outcome.partial_failures, unread)
        _add(self._outcome.warnings, [*batch.broken, *map(str, batch.bad)])

    def _warn(self, text: str) -> None:
        _add(self._outcome.warnings, [text] if text else [])

    def judge(self, fail_share: float) -> Outcome:
        """Vertex AI fails a job when "predictions for significant portion of the instances fail"."""
        outcome = self._outcome
        total = outcome.successful + outcome.failed
        if not total and self._broken:
            outcome.error = invalid_argument("None of the input could be read. " + " ".join(outcome.partial_failures))
        elif total and (not outcome.successful or outcome.failed / total > fail_share):
            outcome.error = internal(
                f"Predictions failed for {outcome.failed} of {total} instances. "
                f"{outcome.output_directory}/prediction.errors_stats-* counts the reasons. "
                f"The most frequent: {self._most_frequent()}"
            )
        if outcome.error:
            outcome.state = "JOB_STATE_FAILED"
        return outcome

    def _most_frequent(self) -> str:
        return sum((shard.errors for shard in self._output.shards), Counter[str]()).most_common(1)[0][0]


async def _to_its_end(work: Awaitable[None]) -> None:
    """Not cut short by a cancellation, which is raised once the work is done."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


def _keep(shard: output.Shard, batch: Batch, text: bytes) -> Answer:
    answer = answer_of(text, len(batch.rows))
    shard.add(batch.rows, answer.predictions)
    return answer


def _add(texts: list[str], more: list[str]) -> None:
    for text in more[:_PARTIAL_FAILURES]:
        if len(texts) < _PARTIAL_FAILURES and text not in texts:
            texts.append(text)
