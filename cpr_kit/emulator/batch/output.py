"""A batch job's output: results and errors_stats files by shard, in the directory of the job.

Names and lines are those of "Get batch predictions": `prediction.results-00000-of-00002` with a JSON object
a line, `prediction.errors_stats-00000-of-00002` with the repr of a Python tuple (message, count) a line.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from cpr_kit.emulator.batch.inputs import Storage
from cpr_kit.emulator.batch.rows import Row

_TAKEN = {"instance", "prediction"}


def directory(prefix: str, model_display_name: str, now: datetime, *, iso: bool = False) -> str:
    """`2021_03_23T12_05_07_282Z` is the form that people see; `iso` is that of the API's OutputConfig."""
    utc = now.astimezone(timezone.utc)
    form = "%Y-%m-%dT%H:%M:%S." if iso else "%Y_%m_%dT%H_%M_%S_"
    time = f"{utc.strftime(form)}{utc.microsecond // 1000:03d}Z"
    return f"{prefix.removesuffix('/')}/prediction-{model_display_name}-{time}"


class Shard:
    """What one worker writes: to the disk, for a file's name needs the number of all."""

    def __init__(self, folder: Path, predictions_format: str) -> None:
        self._folder = folder
        self._as_csv = predictions_format == "csv"
        self._files: dict[tuple[str, ...], IO[bytes]] = {}
        self.results: list[Path] = []
        """Of jsonl there is one; csv files of different columns do not go into one."""
        self.errors: Counter[str] = Counter()

    def add(self, rows: Sequence[Row], predictions: Sequence[Any]) -> None:
        """Blocking."""
        for row, prediction in zip(rows, predictions, strict=True):
            if self._as_csv:
                columns, cells = _cells(row, prediction)
                self._file(columns).write(_csv_line(cells))
            else:
                self._file(()).write(_json_line(row, prediction).encode())

    def _file(self, columns: tuple[str, ...]) -> IO[bytes]:
        if columns not in self._files:
            path = self._folder / f"{id(self)}-{len(self._files)}"
            self.results.append(path)
            self._files[columns] = path.open("wb")
            if columns:
                self._files[columns].write(_csv_line(columns))
        return self._files[columns]

    def close(self) -> None:
        for file in self._files.values():
            file.close()


@dataclass(frozen=True, kw_only=True)
class Output:
    directory: str
    predictions_format: str
    folder: Path
    """Empty, and this job's own."""
    shards: list[Shard] = field(default_factory=list)

    def shard(self) -> Shard:
        self.shards.append(Shard(self.folder, self.predictions_format))
        return self.shards[-1]

    def write(self, storage: Storage) -> None:
        """Blocking. Takes the place of what an earlier run of the same job left."""
        with contextlib.ExitStack() as closing:
            for shard in self.shards:
                closing.callback(shard.close)
        end = ".csv" if self.predictions_format == "csv" else ""
        _name_results([path for shard in self.shards for path in shard.results], self.folder, end)
        _write_errors([shard.errors for shard in self.shards], self.folder)
        for uri in storage.list(f"{self.directory}/prediction."):
            storage.delete(uri)
        storage.upload_folder(self.folder, self.directory)


def _name_results(results: Sequence[Path], folder: Path, end: str) -> None:
    for index, path in enumerate(results):
        path.rename(folder / f"prediction.results-{_place(index, len(results))}{end}")
    if not results:
        (folder / f"prediction.results-{_place(0, 1)}{end}").touch()


def _write_errors(counted: Sequence[Counter[str]], folder: Path) -> None:
    counted = counted or [Counter()]
    for index, errors in enumerate(counted):
        lines = "".join(f"{item!r}\n" for item in errors.items())
        path = folder / f"prediction.errors_stats-{_place(index, len(counted))}"
        path.write_bytes(lines.encode(errors="backslashreplace"))


def _place(index: int, count: int) -> str:
    return f"{index:05d}-of-{count:05d}"


def _json_line(row: Row, prediction: Any) -> str:
    if row.key is not None:
        parts = [f'"key": {row.key}']
    else:
        parts = [f'"instance": {row.shown or row.instance}']
        parts += [
            f"{json.dumps(name)}: {json.dumps(row.attached[name])}" for name in row.attached if name not in _TAKEN
        ]
    return "{" + ", ".join([*parts, f'"prediction": {json.dumps(prediction)}']) + "}\n"


def _cells(row: Row, prediction: Any) -> tuple[tuple[str, ...], list[Any]]:
    """The key's column stands "instead of the instance feature columns" (InstanceConfig)."""
    columns: tuple[str, ...]
    if row.key is not None:
        columns, cells = ("key",), [json.loads(row.key)]
    elif row.columns:
        columns, cells = row.columns, list(row.cells)
    else:
        columns, cells = ("instance",), [json.loads(row.shown or row.instance)]
    return (*columns, *row.attached, "prediction"), [*cells, *row.attached.values(), prediction]


def _csv_line(cells: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([cell if isinstance(cell, str) else _number(cell) for cell in cells])
    return text.getvalue().encode(errors="backslashreplace")


def _number(cell: Any) -> str:
    return "" if cell is None else json.dumps(cell)
