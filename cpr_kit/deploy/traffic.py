"""Arithmetic of traffic splits: percent by deployed model, whole numbers that sum to 100 ("Endpoint.traffic_split")."""

from __future__ import annotations

from collections.abc import Mapping

ALL = 100


def with_share(split: Mapping[str, int], new: str, share: int) -> dict[str, int]:
    """`split` with `share` percent for `new`; the others keep their proportions and never get less than asked.

    >>> with_share({"a": 75, "b": 25}, "c", 10)
    {'a': 68, 'b': 22, 'c': 10}
    """
    others = {name: value for name, value in split.items() if name != new and value}
    if not others:
        return {new: ALL}
    total, left = sum(others.values()), ALL - share
    shares = {name: value * left // total for name, value in others.items()}
    # What rounding left over goes to the largest remainders, so that the sum is exact.
    by_remainder = sorted(others, key=lambda name: (-(others[name] * left % total), name))
    for name in by_remainder[: left - sum(shares.values())]:
        shares[name] += 1
    return {**shares, **({new: share} if share else {})}
