"""Batched equals one by one, for any mix of requests, faults and cancellations."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpr_kit.runtime.batching import Batcher


class Member:
    def __init__(self, value, abandoned=False):
        self.value, self.abandoned, self.answer, self.error, self.settled = value, abandoned, None, None, 0

    def outcome(self):
        return type(self.error), str(self.error), None if self.answer is None else np.asarray(self.answer).tolist()


class Bad(Exception):
    pass


def predict_rows(array):
    """Twice each number; a 13 is a fault of its row, which a model reports for the call as a whole."""
    if (array == 13).any():
        raise Bad("13")
    return array * 2


def run(members, max_rows, predict=predict_rows):
    calls = []

    async def predicted(batch, value):
        calls.append((list(batch), value))
        await asyncio.sleep(0)
        return predict(value)

    async def settled(batch):
        for member in batch:
            member.settled += 1

    asyncio.run(Batcher(predicted, settled, max_rows).run(members))
    return calls


VALUES = st.lists(
    st.tuples(
        st.lists(st.integers(10, 15), min_size=1, max_size=4), st.sampled_from([1, 2]), st.sampled_from(["f8", "f4"])
    ),
    max_size=20,
)


def arrays(values):
    return [np.repeat(np.array(numbers, kind)[:, None], width, 1) for numbers, width, kind in values]


@settings(deadline=None)
@given(VALUES, st.integers(1, 8), st.data())
def test_batched_equals_one_by_one(values, max_rows, data):
    gone = data.draw(st.sets(st.integers(0, len(values))))
    together = [Member(array, index in gone) for index, array in enumerate(arrays(values))]
    alone = [Member(array) for array in arrays(values)]

    calls = run(together, max_rows)
    for member in alone:
        run([member], 1)

    for batched, single in zip(together, alone, strict=True):
        assert batched.settled == (0 if batched.abandoned else 1)
        if not batched.abandoned:
            assert batched.outcome() == single.outcome()
    for batch, value in calls:
        assert not any(member.abandoned for member in batch)
        assert len(batch) == 1 or len(value) <= max_rows
        assert len({(member.value.dtype, member.value.shape[1:]) for member in batch}) == 1


def test_what_fits_goes_in_one_call():
    members = [Member(np.full((2, 3), n)) for n in range(4)]
    assert [len(value) for _, value in run(members, 8)] == [8]


def test_rows_are_counted_not_requests():
    members = [Member(np.full((3, 1), 1)) for _ in range(4)]
    assert [len(value) for _, value in run(members, 7)] == [6, 6]


def test_a_request_larger_than_a_batch_goes_alone_and_whole():
    members = [Member(np.ones((1, 1))), Member(np.ones((9, 1))), Member(np.ones((1, 1)))]
    assert sorted(len(value) for _, value in run(members, 4)) == [1, 1, 9] or sorted(
        len(value) for _, value in run(members, 4)
    ) == [2, 9]
    assert all(member.answer is not None for member in members)


def test_one_bad_row_of_64_costs_a_few_calls_and_nobody_elses_answer():
    members = [Member(np.array([[13 if n == 40 else n % 10]])) for n in range(64)]
    calls = run(members, 64)

    assert [n for n, member in enumerate(members) if member.error] == [40]
    assert len(calls) == 1 + 2 * 6


def test_a_member_that_leaves_during_a_call_is_in_no_later_one():
    members = [Member(np.array([[n]])) for n in (13, 1, 2, 3)]

    def leaves(array):
        members[2].abandoned = True
        return predict_rows(array)

    calls = run(members, 4, leaves)
    assert all(members[2] not in batch for batch, _ in calls[1:])
    assert (members[1].answer.tolist(), members[3].answer.tolist(), members[2].settled) == ([[2]], [[6]], 0)


def test_a_predict_that_does_not_answer_row_by_row_is_joined_no_more(caplog):
    members = [Member(np.array([[n]])) for n in range(4)]
    calls = run(members, 4, lambda array: array.sum())

    assert [member.answer for member in members] == [0, 1, 2, 3]
    assert [len(batch) for batch, _ in calls] == [4, 1, 1, 1, 1] or len(calls) <= 7
    assert caplog.text.count("requests are no longer joined") == 1


def test_an_exception_that_is_no_exception_of_a_row_passes():
    with pytest.raises(KeyboardInterrupt):
        run([Member(np.ones((1, 1)))], 4, lambda array: (_ for _ in ()).throw(KeyboardInterrupt))
