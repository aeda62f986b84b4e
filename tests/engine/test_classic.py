"""What the classic builder's own lines say, and what of it is a build's."""

from cpr_kit.engine import leftovers
from cpr_kit.engine.classic import Made


def test_what_was_there_before_is_no_builds_however_it_is_printed():
    old, new = "a" * 64, "b" * 64
    made = Made()
    for line in (f" ---> Running in {old}", f" ---> Running in {new[:12]}", f" ---> {old[:12]}", f" ---> {new}"):
        made.note(line)
    assert made.since({f"sha256:{old}", old}) == ([new], [new[:12]])


def test_what_comes_from_the_cache_is_another_builds():
    made = Made()
    for line in (" ---> Using cache", f" ---> {'a' * 12}", "Step 2/2 : RUN true", f" ---> {'b' * 12}"):
        made.note(line)
    assert made.since(set()) == (["b" * 12], [])


def test_a_note_is_given_once_and_only_when_its_build_has_ended(tmp_path):
    first, second = leftovers.Note(tmp_path, "engine"), leftovers.Note(tmp_path, "another")
    first.write(["image"], ["container"])
    second.write(["x"], [])
    assert list(leftovers.take(tmp_path, "engine")) == []
    first.leave()
    assert list(leftovers.take(tmp_path, "engine")) == [(["image"], ["container"])]
    assert list(leftovers.take(tmp_path, "engine")) == []
    second.remove()
    assert list(tmp_path.iterdir()) == []
