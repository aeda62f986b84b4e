"""A file of requests: what becomes a body, what is refused before anybody is asked."""

import json

import pytest

from cpr_kit.compare.requests import Request, of_values, read
from cpr_kit.errors import UsageError


def bodies(requests):
    return [json.loads(each.body) for each in requests]


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_lines_are_bodies_or_instances(file):
    found = read(file("r.jsonl", '[1, 2]\n\n{"instances": [5, 6], "parameters": {"k": 1}}\n{"inputs": [3]}\n"text"'))
    assert bodies(found) == [
        {"instances": [[1, 2]]},
        {"instances": [5, 6], "parameters": {"k": 1}},
        {"instances": [{"inputs": [3]}]},
        {"instances": ["text"]},
    ]
    assert [each.name for each in found] == ["line 1", "line 3", "line 4", "line 5"]
    assert (found[1].where(1), found[3].where(0), found[3].where(None)) == ("line 3, instance 1", "line 5", "line 5")


def test_rows_join_neighbours_and_leave_a_body_as_it_is(file):
    found = read(file("r.ndjson", '1\n2\n3\n{"instances": [9]}\n4\n'), rows=2)
    assert bodies(found) == [{"instances": each} for each in ([1, 2], [3], [9], [4])]
    assert [each.name for each in found] == ["lines 1-2", "line 3", "line 4", "line 5"]
    assert found[0].where(1) == "line 2"


def test_a_json_file_is_one_body_or_a_list_of_instances(file):
    one = read(file("b.json", '{"instances": [1]}'))
    assert [(each.name, each.body) for each in one] == [("b.json", b'{"instances": [1]}')]
    listed = read(file("l.json", "[[1], [2]]"), rows=5)
    assert bodies(listed) == [{"instances": [[1], [2]]}]
    assert listed[0].where(1) == "instance 1"


@pytest.mark.parametrize(("name", "text"), [("b.json", '{"instances": [[1]]}'), ("b.jsonl", "[1]")])
def test_a_byte_order_mark_is_no_part_of_the_first_request(file, name, text):
    assert bodies(read(file(name, "\ufeff" + text))) == [{"instances": [[1]]}]


def test_csv_is_read_as_batch_prediction_reads_it(file):
    found = read(file("r.csv", 'size,"kind"\n1.5,"a, b"\n\n2,"c"\n'), rows=10)
    assert bodies(found) == [{"instances": [[1.5, "a, b"], [2.0, "c"]]}]
    assert [found[0].where(index) for index in (0, 1)] == ["line 2", "line 4"]
    with pytest.raises(UsageError, match='line 2: 1 cells, and the header has 2; line 3: "x" is no number'):
        read(file("bad.csv", "a,b\n1\nx,2\n3,4\n"))


def test_a_cell_of_csv_may_hold_a_picture(file):
    picture = "x" * 200_000
    (found,) = read(file("r.csv", f'picture\n"{picture}"\n'))
    assert json.loads(found.body) == {"instances": [[picture]]}


def test_a_folder_has_a_body_a_file(tmp_path):
    (tmp_path / "b.csv").write_text("1,2\n")
    (tmp_path / "a.json").write_text('{"instances": [1]}')
    (tmp_path / "c.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden").write_text("x")
    found = read(tmp_path)
    assert [(each.name, each.content_type) for each in found] == [
        ("a.json", "application/json"),
        ("b.csv", "text/csv"),
        ("c.png", "image/png"),
    ]
    assert found[2].body == b"\x89PNG"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("r.jsonl", "1\n{x\n", r"has 1 bad line, and nothing was asked: line 2: no JSON"),
        ("r.jsonl", "[NaN]\n" * 7, r"7 bad lines.*line 5: .* and 2 more"),
        ("r.jsonl", '{"instances": 3}\n', 'line 1: "instances" is no list'),
        ("r.jsonl", "\n\n", "holds no request"),
        ("r.json", "{", "is no JSON"),
        ("r.csv", "", "is empty; its first line is a header"),
        ("r.csv", "a,b\n", "holds no request"),
        ("r.csv", "a,b\n1,nan\n-inf,2\n", 'line 2: "nan" is no number that JSON has.*line 3: "-inf" is no number'),
        ("r.csv", "a,b\n1,two\n", 'line 2: "two" is no number; a text stands in double quotes'),
        ("r.parquet", "x", r"is no \.jsonl, \.json or \.csv file"),
    ],
)
def test_what_is_refused(file, name, text, words):
    with pytest.raises(UsageError, match=words):
        read(file(name, text))


def test_values_from_python():
    given = Request(name="mine", body=b"x", content_type="text/plain")
    found = of_values([[1, 2], given, {"instances": [3]}, 4], rows=2)
    assert [each.name for each in found] == ["request 1", "mine", "request 3", "request 4"]
    for wrong in (lambda: of_values([]), lambda: of_values([1], rows=0)):
        with pytest.raises(UsageError):
            wrong()
