"""A scikit-learn model into ONNX, and the proof on the user's own rows that both say the same."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cpr_kit.convert import speed
from cpr_kit.convert.agreement import Agreement, Answers, compare
from cpr_kit.convert.translation import DTYPES, Untranslatable, translate
from cpr_kit.errors import StartError, UsageError
from cpr_kit.runtime.frameworks import estimator
from cpr_kit.runtime.frameworks.graph import Graph, GraphEstimator

if TYPE_CHECKING:
    import numpy as np

_COUNTS = (1, 100)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A graph whose input and arithmetic are of `dtype`: how it agrees, or why there is none."""

    dtype: str
    agreement: Agreement | None = None
    reason: str = ""
    graph: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a conversion. `chosen` agrees best; whether that is enough, `agrees` says."""

    model: str
    tolerance: float
    chosen: Attempt
    attempts: tuple[Attempt, ...]
    speeds: tuple[speed.Speed, ...]

    @property
    def agreement(self) -> Agreement:
        assert self.chosen.agreement is not None
        return self.chosen.agreement

    @property
    def agrees(self) -> bool:
        return self.agreement.whole

    @property
    def graph(self) -> bytes:
        """The bytes of model.onnx."""
        return self.chosen.graph

    def facts(self) -> dict[str, Any]:
        """All of it but the graphs, in plain values."""
        return {
            "model": self.model,
            "agrees": self.agrees,
            "tolerance": self.tolerance,
            "dtype": self.chosen.dtype,
            **dataclasses.asdict(self.agreement),
            "attempts": [
                {
                    "dtype": attempt.dtype,
                    "reason": attempt.reason,
                    "agreement": attempt.agreement and dataclasses.asdict(attempt.agreement),
                }
                for attempt in self.attempts
            ],
            "in_process_speed": [{**dataclasses.asdict(item), "ratio": item.ratio} for item in self.speeds],
        }


def convert(model: Any, rows: np.ndarray[Any, Any], *, tolerance: float = 1e-5) -> Report:
    """Convert a fitted model in 64 and in 32 bits, and compare each with the model on (n, features) `rows`.

    Raises UsageError for rows that the model itself refuses, and Untranslatable when no graph can be made or run.
    """
    expected, notes = _asked(model, rows)
    attempts = tuple(_attempt(model, rows, expected, dtype=dtype, notes=notes, tolerance=tolerance) for dtype in DTYPES)
    made = [attempt for attempt in attempts if attempt.agreement is not None]
    if not made:
        reasons = dict.fromkeys(attempt.reason for attempt in attempts)
        raise Untranslatable("; ".join(reasons))
    chosen = min(made, key=_badness)
    answers = GraphEstimator(Graph(chosen.graph))
    return Report(
        model=type(model).__name__,
        tolerance=tolerance,
        chosen=chosen,
        attempts=attempts,
        speeds=tuple(speed.measure(model.predict, answers.predict, rows, count=count) for count in _COUNTS),
    )


def _asked(model: Any, rows: np.ndarray[Any, Any]) -> tuple[Answers, dict[str, Any]]:
    """What the model says of the rows, and what the graph must know to answer in the same form."""
    import numpy as np

    declared = estimator.signature(model)
    if declared.features is not None and declared.features != rows.shape[1]:
        raise UsageError(f"the rows have {rows.shape[1]} values; the model was fitted with {declared.features}")
    try:
        answers = _answers(model, rows, labelled=None)
    except Exception as error:
        raise UsageError(f"the model itself refuses the rows: {' '.join(str(error).split())}") from error
    first = answers.labels if answers.labels is not None else answers.values
    assert first is not None
    notes = {
        "dtype": "object" if first.dtype.hasobject else np.dtype(first.dtype).str,
        "ndim": first.ndim,
        "names": declared.names,
        "allow_missing": declared.allow_missing and bool(np.isnan(rows).any()),
    }
    return answers, notes


def _attempt(
    model: Any,
    rows: np.ndarray[Any, Any],
    expected: Answers,
    *,
    dtype: str,
    notes: dict[str, Any],
    tolerance: float,
) -> Attempt:
    try:
        graph = translate(model, rows.shape[1], dtype=dtype, notes=notes)
        answers = _answers(GraphEstimator(Graph(graph)), rows, labelled=expected)
        agreement = compare(expected, answers, tolerance=tolerance)
    except (Untranslatable, StartError, ValueError) as error:
        return Attempt(dtype=dtype, reason=getattr(error, "cause", str(error)))
    return Attempt(dtype=dtype, agreement=agreement, graph=graph)


def _answers(model: Any, rows: np.ndarray[Any, Any], *, labelled: Answers | None) -> Answers:
    """Of either model. `labelled` are the answers whose kinds the graph's must have; None: the model is asked."""
    answer = model.predict(rows)
    if labelled is None:
        is_label = answer.dtype.kind != "f" or hasattr(model, "classes_")
        has_probabilities = hasattr(model, "predict_proba")
    else:
        is_label, has_probabilities = labelled.labels is not None, labelled.probabilities is not None
    return Answers(
        labels=answer if is_label else None,
        values=None if is_label else answer,
        probabilities=model.predict_proba(rows) if has_probabilities else None,
    )


def _badness(attempt: Attempt) -> tuple[int, int, float]:
    """Fewest other labels first; 64 bits, which come first, where both are equally good."""
    assert attempt.agreement is not None
    return attempt.agreement.flips, attempt.agreement.beyond, attempt.agreement.max_difference
