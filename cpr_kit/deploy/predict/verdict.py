"""What a new version's answers are worth: right or wrong each, and all of them against the old version's. Pure."""

from __future__ import annotations

import collections
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from cpr_kit.deploy.predict.asking import JSON, Answer
from cpr_kit.deploy.target import CheckRequest
from cpr_kit.deploy_config import CanaryRules
from cpr_kit.harness.difference import difference

LEAST = 20
"""Of fewer answers the 95th percentile says nothing."""
_ADDED = {"deployedModelId", "model", "modelDisplayName", "modelVersionId"}
"""What Vertex AI adds to a prediction (PredictResponse)."""
_PASSED_ON = {"predictions", "metadata"}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answer, judged: `error` says what is wrong with it. `named` is whether it told who gave it."""

    seconds: float
    error: str = ""
    named: bool = True


@dataclass(frozen=True)
class Verdict:
    """`reasons` are sentences: why not, or what was found; `figures` the numbers behind them, times in ms."""

    passed: bool
    reasons: tuple[str, ...]
    figures: Mapping[str, float]


def fault(check: CheckRequest, answer: Answer) -> str:
    """What is wrong with an answer to a check; empty where nothing is.

    What is labelled JSON is compared by value, numbers within a tolerance: :predict of a shared endpoint makes floats
    of integers. What Vertex AI adds to a prediction does not count, nor what it may drop: keys beside predictions and
    metadata.
    """
    if not answer.ok:
        return f'check "{check.name}": {answer.status or "no connection"}: {_short(answer.message)}'
    if check.expected is None:
        return ""
    kind = answer.content_type.partition(";")[0].strip().lower()
    is_json = kind == JSON or kind.endswith("+json")
    expected, got = (_parsed(check.expected), _parsed(answer.body)) if is_json else (None, None)
    if expected is None or got is None:
        same = check.expected == answer.body
        found = f"expected {_short(_text(check.expected))}, got {_short(_text(answer.body))}"
    else:
        words = difference(*_comparable(expected, got))
        same, found = words is None, _short(words or "")
    return "" if same else f'check "{check.name}": {found}'


def _text(body: bytes) -> str:
    """In quotes, as JSON has it: two texts may differ in a line's end alone."""
    return json.dumps(body.decode(errors="replace"), ensure_ascii=False)


def judge(new: Sequence[Sample], old: Sequence[Sample] | None, rules: CanaryRules) -> Verdict:
    """By errors, then by latency: both in words with numbers. `old` is None where there is nothing to compare with."""
    against: list[str] = []
    notes: list[str] = []
    wrong = [sample for sample in new if sample.error]
    rate = len(wrong) / len(new) if new else 0.0
    allowed = _percent(rules.max_error_rate)
    found = f"{len(wrong)} of {len(new)} answers were wrong ({_percent(rate)}), allowed {allowed}"
    if exceeds(len(wrong), len(new), rules):
        against += [found, *_worst(wrong), *_compared_errors(rate, old or ())]
    elif len(new) < rules.requests:
        against.append(
            f"the new version answered {len(new)} of the {rules.requests} requests that it takes to judge it; "
            "give it a larger share, or change requests or timeout of the canary in cpr.toml"
        )
    else:
        notes.append(found)
    slow, fine, figures = _latency(new, old, rules)
    against += slow
    notes += fine
    figures |= {
        "requests_new": float(len(new)),
        "errors_new": float(len(wrong)),
        "errors_unnamed": float(sum(not sample.named for sample in wrong)),
        "requests_old": float(len(old or ())),
        "errors_old": float(sum(bool(sample.error) for sample in old or ())),
    }
    return Verdict(not against, tuple(against or notes), figures)


def exceeds(errors: int, requests: int, rules: CanaryRules) -> bool:
    """Whether there are too many errors, however many right answers come before `rules.requests` are reached."""
    return errors > rules.max_error_rate * max(requests, rules.requests) + 1e-9


def percentile(seconds: Sequence[float], share: float) -> float:
    """The nearest rank.

    >>> percentile([5, 1, 4, 2, 3], 0.5), percentile(range(1, 101), 0.95)
    (3, 95)
    """
    ranked = sorted(seconds)
    return ranked[max(0, math.ceil(share * len(ranked) - 1e-9) - 1)]


def _latency(
    new: Sequence[Sample], old: Sequence[Sample] | None, rules: CanaryRules
) -> tuple[list[str], list[str], dict[str, float]]:
    """What is too slow, what is not, and the figures. Only answers that are right have a latency worth comparing."""
    mine = [sample.seconds for sample in new if not sample.error]
    theirs = [sample.seconds for sample in old or () if not sample.error]
    if old is None:
        return [], [], {}
    for whose, times in (("old", theirs), ("new", mine)):
        if len(times) < LEAST:
            return [], [f"latency was not compared: {len(times)} right answers of the {whose} version are too few"], {}
    slow: list[str] = []
    fine: list[str] = []
    figures: dict[str, float] = {}
    for name, share in (("median", 0.5), ("p95", 0.95)):
        after, before = percentile(mine, share) * 1000, percentile(theirs, share) * 1000
        ratio = after / before if before else math.inf if after else 1.0
        figures |= {f"{name}_new_ms": after, f"{name}_old_ms": before, f"{name}_ratio": ratio}
        words = f"{name} {_ms(after)} against {_ms(before)}: ratio {ratio:.2g}, allowed {rules.max_latency_ratio:g}"
        if ratio <= rules.max_latency_ratio:
            fine.append(words)
        elif after - before <= rules.latency_slack_ms:
            fine.append(f"{words}, and up to {rules.latency_slack_ms:g} ms more in any case")
        else:
            slow.append(words)
    return slow, fine, figures


def _worst(wrong: Sequence[Sample]) -> list[str]:
    """The most frequent errors, and how many of them say nothing of who made them."""
    texts = collections.Counter(sample.error for sample in wrong).most_common(3)
    found = [f"{count} times: {text}" if count > 1 else text for text, count in texts]
    if unnamed := sum(not sample.named for sample in wrong):
        found.append(f"{unnamed} of the errors name no deployed model and are held against the new version")
    return found


def _compared_errors(rate: float, old: Sequence[Sample]) -> list[str]:
    errors = sum(bool(sample.error) for sample in old)
    if not errors:
        return []
    words = f"the old version gave {errors} wrong answers of {len(old)} ({_percent(errors / len(old))})"
    if errors / len(old) >= rate:
        return [f"{words}, as many as the new one: look at the checks, and at what both rely on"]
    return [words]


def _comparable(expected: Any, got: Any) -> tuple[Any, Any]:
    if not (isinstance(expected, dict) and isinstance(got, dict) and "predictions" in expected):
        return expected, got
    wanted = {key: value for key, value in expected.items() if key in _PASSED_ON or key in got}
    return wanted, {key: value for key, value in got.items() if key in wanted or key not in _ADDED}


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}..."  # noqa: PLR2004


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"  # noqa: PLR2004
