"""The end of a worker in words, the budget for ends, and the board on which workers leave their own word."""

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.runtime.workers import death
from cpr_kit.runtime.workers.board import Board, End, Word


@pytest.mark.parametrize(
    ("status", "word", "silent", "cause"),
    [
        (signal.SIGKILL, None, None, "was killed by signal 9 (out of memory?)"),
        (signal.SIGSEGV, None, None, "was killed by signal 11 (SIGSEGV)"),
        (40, None, None, "was killed by signal 40 (a real-time signal)"),
        (7 << 8, None, None, "ended with exit code 7"),
        (0, None, None, "ended with exit code 0"),
        (signal.SIGKILL, None, 30.0, "did not answer for 30 s, and was ended"),
        (1 << 8, Word(End.LOAD_FAILED, "no bucket | make one"), None, "could not load the model: no bucket"),
        (70 << 8, Word(End.HUNG, "was kept"), None, "was kept"),
    ],
)
def test_a_death_is_told_by_its_status_or_by_its_last_word(status, word, silent, cause):
    told = death.of(status, word, silent=silent)

    assert (told.cause, told.planned) == (cause, False)
    assert told.remedy


def test_an_end_that_was_meant_is_no_death():
    assert death.of(0, Word(End.PLANNED, "was asked to stop")).planned


@given(
    limit=st.integers(1, 5),
    window=st.integers(1, 50),
    steps=st.lists(st.integers(0, 60), max_size=60),
)
def test_a_budget_is_overdrawn_when_more_than_its_limit_lie_within_the_window(limit, window, steps):
    budget, now, times = death.Budget(limit, window), 0, []
    for step in steps:
        now += step
        times.append(now)
        recent = sum(time > now - window for time in times)
        assert budget.spend(now) == (recent <= limit)
        assert budget.spent == recent


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(End), st.text()), max_size=10))
def test_a_board_gives_back_the_word_of_each_slot(words):
    board, left = Board(4), {}
    assert [board.take() for _ in range(4)] == [0, 1, 2, 3]
    for slot, end, reason in words:
        board.leave(slot, Word(end, reason))
        left[slot] = Word(end, reason.encode(errors="replace").decode())

    for slot in range(4):
        assert board.word(slot) == left.get(slot)


def test_a_board_cuts_long_words_and_forgets_cleared_slots():
    board = Board(2)
    slot = board.take()
    board.leave(slot, Word(End.HUNG, "\u00e9" * 10_000))
    board.set_ready(slot, ready=True)

    assert len(board.word(slot).reason) > 1000
    assert (board.is_ready(slot), board.any_ready()) == (True, True)
    board.clear(slot)
    assert (board.word(slot), board.any_ready(), board.take()) == (None, False, slot)


def test_a_board_is_shared_by_forked_processes():
    board = Board(1)
    pid = os.fork()
    if not pid:
        board.leave(0, Word(End.HUNG, "from the child"))
        os._exit(0)
    os.waitpid(pid, 0)

    assert board.word(0) == Word(End.HUNG, "from the child")
