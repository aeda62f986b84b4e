import os
import shutil
import subprocess
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.build.ignore import ALWAYS, Ignore, escaped, parse
from cpr_kit.errors import SourceError

WORD = st.text("ab.", min_size=1, max_size=3).filter(lambda word: word.strip("."))
PATH = st.lists(WORD, min_size=1, max_size=4).map("/".join)


def ignore(*lines, always=()):
    return Ignore(tuple(parse(lines, "f")), tuple(parse(always, "f")))


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("a", ["a", "a/b"], ["ab", "b/a"]),
        ("/a/", ["a", "a/b"], ["b/a"]),
        ("./a/../b", ["b"], ["a"]),
        ("*.py", ["x.py", ".py"], ["d/x.py", "x.pyc"]),
        ("*/*.py", ["d/x.py"], ["x.py", "d/e/x.py"]),
        ("**/*.py", ["x.py", "d/x.py", "d/e/x.py"], ["x.pyc"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a"]),
        ("a/**/z", ["a/z", "a/b/c/z"], ["z"]),
        ("**", ["a", "a/b"], []),
        ("a?", ["ab"], ["a", "a/b"]),
        ("[a-c]x", ["bx"], ["dx", "-x"]),
        ("[^a]x", ["bx"], ["ax"]),
        (r"\*", ["*"], ["a"]),
        ("a.b+(c)", ["a.b+(c)"], ["aXb+(c)"]),
        ("  a  ", ["a"], ["  a"]),
        (" #a", ["#a"], []),
        ("#a", [], ["#a"]),
    ],
)
def test_a_pattern_matches_as_dockers_does(pattern, inside, outside):
    assert [path for path in inside + outside if ignore(pattern).leaves_out(path)] == inside


def test_the_last_pattern_that_matches_decides():
    rules = ignore("*.md", "!README*.md", "README-secret.md", "docs", "! docs/keep")
    kept = ["README.md", "docs/keep/x", "x.txt"]
    assert [p for p in [*kept, "a.md", "README-secret.md", "docs/x"] if not rules.leaves_out(p)] == kept


def test_no_exception_brings_back_what_is_always_left_out():
    rules = ignore("!**/.git", "!**", always=ALWAYS)
    assert all(
        rules.leaves_out(p) for p in [".git", "a/.git/config", "__pycache__/x.pyc", "a/b.pyc", ".venv/bin/python"]
    )
    assert not rules.leaves_out(".gitignore")


@pytest.mark.parametrize("line", ["[a", "a[", "x\\", "!", "!  ", "[z-a]"])
def test_a_pattern_that_docker_refuses_is_refused_with_its_line(tmp_path, line):
    (tmp_path / ".dockerignore").write_text(f"# first\n{line}\n")
    with pytest.raises(SourceError, match=r"\.dockerignore:2: "):
        Ignore.read(tmp_path)


@given(PATH)
def test_a_path_escaped_matches_itself_and_what_lies_below(path):
    rules = ignore(escaped(path))
    assert rules.leaves_out(path)
    assert rules.leaves_out(f"{path}/x")
    assert not rules.leaves_out(f"{path}x")


@given(st.text("*?[]\\x", min_size=1))
def test_special_characters_escaped_are_plain(name):
    assert ignore(escaped(name)).leaves_out(name)
    assert not ignore(escaped(name)).leaves_out("x" * (len(name) + 1))


@given(st.lists(PATH), PATH, PATH)
def test_order_counts_only_from_the_last_match_on(before, path, other):
    assert ignore(*before, path).leaves_out(path)
    assert not ignore(*before, path, f"!{path}").leaves_out(path)
    if not path.startswith(other):
        assert ignore(*before, path, f"!{other}").leaves_out(path)


@given(st.lists(st.tuples(st.booleans(), PATH)), PATH)
def test_what_is_pruned_has_nothing_below_it_that_is_kept(lines, path):
    rules = ignore(*[("!" if exception else "") + pattern for exception, pattern in lines])
    if rules.prunes(path):
        assert rules.leaves_out(f"{path}/x")
        assert rules.leaves_out(f"{path}/a/b")


LINES = [
    ["*", "!keep", "keep/**/no.txt"],
    ["**/*.txt", "!keep/*.txt"],
    ["keep/d*", "!keep/deep/er", "keep/deep/er/no.txt"],
    ["**/deep/**", "!keep/deep/er/no.txt"],
    ["?ther", "[k-l]eep/*.txt", "**er"],
    ["/keep/./deep//er/", "*.md", "!b.md"],
    ["ke**xt", "!other/*"],
]


@pytest.mark.engine
@pytest.mark.parametrize("lines", LINES, ids=" ".join)
def test_keeps_what_a_real_build_keeps(tmp_path, lines):
    docker = next((path for path in ("/usr/bin/docker", shutil.which("docker")) if path and os.path.exists(path)), None)
    source = tmp_path / "source"
    files = ["a.md", "b.md", "other/no.txt", "other/x", "keep/a.txt", "keep/no.txt", "keep/deep/no.txt", "keep/deep/er/no.txt", "keep/deep/er/b.py"]  # fmt: skip
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    (source / ".dockerignore").write_text("\n".join(lines))
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    command = [docker, "build", "-q", "-f", tmp_path / "Dockerfile", "-o", f"type=tar,dest={tmp_path}/out.tar", source]
    subprocess.run(command, check=True, env={**os.environ, "DOCKER_BUILDKIT": "1"}, capture_output=True)
    with tarfile.open(tmp_path / "out.tar") as archive:
        kept = {member.name for member in archive if member.isfile()}
    rules = Ignore.read(source)
    assert {name for name in files if not rules.leaves_out(name)} == kept - {".dockerignore"}
