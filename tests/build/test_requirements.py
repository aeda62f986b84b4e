import pytest

from cpr_kit.build import requirements
from cpr_kit.errors import SourceError


def test_included_files_take_the_place_of_the_line_that_names_them(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "requirements.txt").write_text(
        "a==1\n-r deep/more.txt\n--index-url https://e.org/simple\nc \\\n  ; python_version > '3'\n"
    )
    (tmp_path / "deep" / "more.txt").write_text("-r=../last.txt\nb\n")
    (tmp_path / "last.txt").write_text("d # why\n-c https://e.org/c.txt\n")
    assert requirements.read(tmp_path / "requirements.txt").splitlines() == [
        "a==1",
        "d # why",
        "-c https://e.org/c.txt",
        "b",
        "--index-url https://e.org/simple",
        "c   ; python_version > '3'",
    ]


def test_files_that_include_each_other_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("-r b.txt\n")
    (tmp_path / "b.txt").write_text("--requirement a.txt\n")
    with pytest.raises(SourceError, match=r"b\.txt: includes .*a\.txt, which includes it"):
        requirements.read(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "line",
    ["-e .", "--editable=../x", "./words", "/opt/words.whl", "words.whl", "lib/words", "-f wheels", "--find-links=/opt/w",
     "words @ file:///opt/words.whl", "~/words", "-c constraints.txt"],
)  # fmt: skip
def test_paths_of_this_machine_are_refused_with_their_line(tmp_path, line):
    (tmp_path / "lib" / "words").mkdir(parents=True)
    (tmp_path / "words.whl").touch()
    (tmp_path / "requirements.txt").write_text(f"numpy\n# {line}\n{line}\n")
    with pytest.raises(SourceError, match=r"requirements\.txt:3: ") as caught:
        requirements.read(tmp_path / "requirements.txt")
    assert line in str(caught.value)


def test_names_extras_and_other_spellings_are_understood():
    text = (
        "Foo_Bar[b, A]==1 # x\nfoo.bar[c]\n-r x\n\n# no\nhttps://e.org/x.whl\nz @ git+https://e.org/z --hash=sha256:0"
    )
    assert requirements.declared(text) == {"foo-bar": frozenset("abc"), "z": frozenset()}
