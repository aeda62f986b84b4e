"""The comparison in lines, from figures that are given."""

import pytest

from cpr_kit.migrate import table
from cpr_kit.migrate.comparison import Comparison, Figures, _differs

BEFORE = Figures(
    size_mb=820, added_mb=560.4, build_s=61.2, rebuild_s=12.7, reinstalls=True, start_s=6, memory_mb=430, rate=900,
    answer=b"{}",
)  # fmt: skip
AFTER = Figures(
    size_mb=420, added_mb=199.6, build_s=20, rebuild_s=0.9, reinstalls=False, start_s=1.5, memory_mb=140, rate=4500,
    answer=b"{}",
)  # fmt: skip


def compared(**changes):
    return Comparison(**{"before": BEFORE, "after": AFTER, "differs": None, "notes": ("a note",), **changes})


def test_lines_stand_in_columns_with_their_ratios():
    lines = table.lines(compared())

    assert lines[0].split() == ["before", "after", "ratio"]
    assert lines[4].split("  ")[0] == "rebuild after an edited line"
    assert "12.7 s, installs again" in lines[4]
    assert lines[4].endswith("0.071")
    assert len({line.find("before") for line in lines[:1]} | {lines[1].find("820 MB")}) == 1
    assert lines[-2:] == ["both answered the request alike", "a note"]


def test_markdown_is_a_table_with_notes_below():
    text = table.markdown(compared(differs="$.predictions[0]: expected 1, got 2"))

    assert "| added to the base | 560 MB | 200 MB | 0.36 |" in text
    assert "| requests/s | 900 | 4,500 | 5 |" in text
    assert "- the answers differ: $.predictions[0]: expected 1, got 2" in text


def test_what_was_not_measured_has_no_row():
    rows = table.lines(compared(after=Figures(**{**vars(AFTER), "rate": None, "memory_mb": None, "answer": b""})))
    assert not [row for row in rows if row.startswith(("requests/s", "memory"))]


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        (b'{"a": [1]}', b'{"a":[1.0]}', None),
        (b"[1]", b"[2]", "$[0]: expected 1, got 2"),
        (b"one", b"two", "expected b'one', got b'two'"),
    ],
)
def test_answers_are_compared_by_what_they_say(before, after, differs):
    assert _differs(before, after) == differs


def test_an_image_of_the_sdk_that_does_not_serve_leaves_its_cells_empty():
    silent = Figures(**{**vars(BEFORE), "start_s": None, "memory_mb": None, "rate": None, "answer": b"", "fault": "x"})
    text = table.markdown(compared(before=silent))
    assert "| container start to first 200 |  | 1.5 s |  |" in text
    assert "answers were not compared" in text
