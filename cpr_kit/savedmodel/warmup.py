"""The file of requests that TensorFlow Serving sends itself before a model is available.

"SavedModel Warmup" in its documentation: a TFRecord file of PredictionLog, at most a thousand, in the model's own
folder. Google's optimized TensorFlow runtime compiles once for each batch size, so one record for each is of use.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpr_kit import tfrecord
from cpr_kit.errors import UsageError
from cpr_kit.savedmodel import body, messages, reader, tensors
from cpr_kit.savedmodel.signatures import DEFAULT, Signature, find, shown

MOST = 1000
"""TensorFlow Serving refuses a file with more records."""
_MOST_ROWS = 100_000
"""Of one batch, which is made in memory; TensorFlow Serving's own batches have 1000 unless it is told otherwise."""
_MODEL_NAME = "default"  # the name that Vertex AI's TensorFlow images serve under


def write(
    model_dir: str | Path, requests: Sequence[Any], batch_sizes: Sequence[int] = (), signature: str = DEFAULT
) -> Path:
    """Write the file into the model that a server would load from `model_dir`, and give back its path.

    A request is an instance, or a whole body. Instances are collected, and each batch size gets as many of them, from
    the first on and again from the first where there are too few; without sizes all are one batch. A body in columns
    ("inputs") becomes one record as it is. Raises ConfigError for the model, UsageError for the requests.
    """
    model = reader.read(model_dir)
    chosen = find(model.signatures, signature)
    bodies = list(_bodies(chosen, [_whole(each) for each in requests], batch_sizes))
    if not 1 <= len(bodies) <= MOST:
        raise UsageError(f"there would be {len(bodies)} records, and TensorFlow Serving takes 1 to {MOST}")
    for content in bodies:
        if found := body.faults(model.signatures, content):
            lines = "\n  ".join(found)
            size = f" as a batch of {len(content['instances'])}" if "instances" in content else ""
            raise UsageError(f'signature "{shown(signature)}" does not take these requests{size}:\n  {lines}')
    path = model.path / reader.WARMUP
    _put(path, [_record(chosen, content) for content in bodies])
    return path


def _whole(value: Any) -> Any:
    """With 3 for 3.0, as exporters write integers that were floats: a tensor, unlike JSON, does not show the point."""
    if isinstance(value, Mapping):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    is_whole = isinstance(value, float) and value.is_integer() and str(value) != "-0.0"  # which no integer is
    return int(value) if is_whole else value


def _bodies(signature: Signature, requests: Sequence[Any], batch_sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    head = {"signature_name": signature.name}
    rows: list[Any] = []
    columns = 0
    for number, request in enumerate(requests):
        named = request.get("signature_name", signature.name) if isinstance(request, Mapping) else signature.name
        if named != signature.name and "signature_name" not in signature.inputs:
            raise UsageError(
                f'request {number} is for "{shown(str(named))}", and the file for "{shown(signature.name)}"; '
                "a file is for one signature: name that of its requests"
            )
        if _is_body(request, "inputs", signature):
            columns += 1
            yield {**head, "inputs": request["inputs"]}
        elif not _is_body(request, "instances", signature):
            rows.append(request)
        elif isinstance(request["instances"], list):
            rows.extend(request["instances"])
        else:
            raise UsageError(f'request {number}: "instances" must be a list')
    if not rows and not columns:
        raise UsageError("there is no request to warm up with; give one instance or more")
    if not rows and batch_sizes:
        raise UsageError('batch sizes are for instances, and the requests are in columns ("inputs")')
    for size in dict.fromkeys(batch_sizes or [len(rows)] * bool(rows)):
        yield {**head, "instances": _batch(rows, size)}


def _batch(rows: Sequence[Any], size: int) -> list[Any]:
    if size < 1:
        raise UsageError(f"{size} is no batch size; give 1 or more")
    if size > _MOST_ROWS:
        raise UsageError(f"a batch of {size:,} instances cannot be written; give at most {_MOST_ROWS:,}")
    return list(itertools.islice(itertools.cycle(rows), size))


def _is_body(request: Any, key: str, signature: Signature) -> bool:
    """An input may have such a name itself, and then it is an instance."""
    return isinstance(request, Mapping) and key in request and key not in signature.inputs


def _record(signature: Signature, content: Mapping[str, Any]) -> bytes:
    log = messages.new("PredictionLog")
    request = log.predict_log.request
    request.model_spec.name = _MODEL_NAME
    request.model_spec.signature_name = signature.name
    if "inputs" in content:
        columns = body.named(signature, content["inputs"])
    else:
        rows = [body.named(signature, instance) for instance in content["instances"]]
        columns = {key: [row[key] for row in rows] for key in rows[0]}
    for key, value in columns.items():
        request.inputs[key].CopyFrom(tensors.encode(signature.inputs[key], value))
    # A map has no order of its own; the same requests give the same file.
    data: bytes = log.SerializeToString(deterministic=True)
    return data


def _put(path: Path, records: list[bytes]) -> None:
    """Beside it and moved, so that a server never reads half a file."""
    try:
        path.parent.mkdir(exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                tfrecord.write(file, records)
            Path(beside).chmod(0o644)  # a server reads it as another user
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def read_requests(path: Path) -> list[Any]:
    """The requests of a file of JSON lines; a file that is one JSON value is one request. Raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8; it must hold JSON lines") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    with contextlib.suppress(ValueError, RecursionError):
        return [json.loads(text)]
    requests = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            requests += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}, line {number} is not JSON: {error.msg} at column {error.colno}") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number} is not JSON: {error}") from None
    return requests


def count(path: Path) -> int:
    """How many records a warm-up file holds."""
    with path.open("rb") as file:
        return sum(1 for _ in tfrecord.records(file))
