"""The user's own rows, from CSV, npy or JSON, as an (n, features) array of floats."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".csv", ".npy", ".json")
_MISSING = ("", "nan", "null", "na")


def read(path: Path) -> np.ndarray[Any, Any]:
    """Empty cells and null become NaN. Raises UsageError naming file, line and column of what is no number.

    JSON is a list of rows, or a request, `{"instances": [...]}`.
    """
    import numpy as np

    readers = {".csv": _csv, ".npy": _npy, ".json": _json}
    if path.suffix not in readers:
        raise UsageError(f"{path} must end in one of {', '.join(SUFFIXES)}")
    try:
        values = readers[path.suffix](path)
        rows = np.asarray(values, dtype=float)
    except UsageError:
        raise
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise UsageError(f"{path} holds no rows of numbers with one length: {error}") from error
    if rows.ndim != 2 or not rows.size:  # noqa: PLR2004
        raise UsageError(f"{path} must hold (n, features) numbers; it has shape {rows.shape}")
    return rows


def _npy(path: Path) -> Any:
    import numpy as np

    # A file of objects is a pickle, and is refused.
    return np.load(path, allow_pickle=False)


def _json(path: Path) -> Any:
    value = json.loads(path.read_bytes())
    return value["instances"] if isinstance(value, dict) and "instances" in value else value


def _csv(path: Path) -> list[list[float]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = [(number, cells) for number, cells in enumerate(csv.reader(file), start=1) if cells]
    if lines and not any(_is_number(cell) for cell in lines[0][1]):
        del lines[0]  # the names of the columns
    return [
        [_number(cell, f"{path} line {number}, column {column}") for column, cell in enumerate(cells, start=1)]
        for number, cells in lines
    ]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, where: str) -> float:
    if cell.strip().lower() in _MISSING:
        return float("nan")
    if not _is_number(cell):
        raise UsageError(f'{where} is "{cell}", which is no number; encode text before the model, or leave it out')
    return float(cell)
