import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.build import dockerfile, shell, stages
from cpr_kit.build.dockerfile import Pair, parse
from cpr_kit.build.expansion import expanded
from cpr_kit.errors import SourceError

ANY = st.text(st.one_of(st.sampled_from("\\`\"'$#<>[]{}()=-:&|; \t\r\n"), st.characters(codec="utf-8")), max_size=120)
WORD = st.text("abcXYZ019._/:=$-", min_size=1, max_size=8).filter(lambda word: not word.startswith("--"))
KEYWORDS = ("RUN", "COPY", "EXPOSE", "WORKDIR", "USER", "from", "Env")


def only(text):
    (instruction,) = parse(text).instructions
    return instruction


def lines_of(text):
    return [(each.keyword, each.line, each.last_line) for each in parse(text).instructions]


def test_an_instruction_begins_and_ends_on_its_lines():
    text = '# syntax=x\n\nFROM a AS b\n\nRUN one \\\n  # why\n\n  && two \\\n  && three\nCMD ["x"]\n'
    assert lines_of(text) == [("FROM", 3, 3), ("RUN", 5, 9), ("CMD", 10, 10)]
    run = parse(text).instructions[1]
    assert (run.text, run.line_of("two"), run.line_of("three")) == ("one   && two   && three", 8, 9)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("RUN a \\\n\\\nb", 1),
        ("\ufeffRUN a", 1),
        ("\r\nRUN a \\\r\nb\r\n", 2),
        ("  \n\t RUN a", 2),
        ("RUN a \\", 1),
        ("# escape=`\nRUN a `\nb \\", 2),
        ("#escape = `\nRUN a ` \t\nb", 2),
    ],
)
def test_one_instruction_whatever_its_line_ends(text, line):
    assert only(text).line == line


def test_a_doubled_backslash_ends_the_line():
    assert [each.text for each in parse("RUN a \\\\\nRUN b").instructions] == ["a \\\\", "b"]


def test_the_escape_directive_stands_above_all_else():
    assert len(parse("# escape=`\nRUN a `\n b").instructions) == 1
    assert len(parse("\n# escape=`\nRUN a `\n b").instructions) == 2
    assert parse("# escape=x\nRUN a").problems[0].line == 1


def test_flags_end_where_the_words_begin():
    copy = only("COPY --from=build \\\n --chown=1:1 a --b c")
    assert (copy.flags, copy.text, copy.line_of("a")) == ((("from", "build"), ("chown", "1:1")), "a --b c", 2)
    assert only('RUN --mount=type=cache,target="/a b" pip').text == "pip"


@pytest.mark.parametrize(
    ("text", "words", "dropped"),
    [
        ('CMD ["a", "b c"]', ("a", "b c"), ""),
        ("CMD []", (), ""),
        ('CMD ["a"] && b', ("a",), "&& b"),
        ("CMD ['a', 'b']", None, ""),
        ('CMD ["a", 1]', None, ""),
        ('CMD ["a"', None, ""),
        ("CMD [ -f x ]", None, ""),
        ("CMD a", None, ""),
        ("CMD " + "[" * 5000, None, ""),
    ],
)
def test_the_exec_form_is_json_and_nothing_else(text, words, dropped):
    assert (only(text).exec, only(text).behind_exec) == (words, dropped)


def test_a_word_of_the_exec_form_has_its_line():
    words = only('CMD ["python", \\\n  "--port", \\\n  "80"]').words
    assert [(word.text, word.line) for word in words] == [("python", 1), ("--port", 2), ("80", 3)]


def test_pairs_of_env_in_both_forms_and_of_arg():
    env = only('ENV A=1 \\\n B="x y" \\\n C=a\\ b')
    assert env.pairs == (Pair("A", "1", 1), Pair("B", '"x y"', 2), Pair("C", "a\\ b", 3))
    assert only("ENV A one two").pairs == (Pair("A", "one two", 1),)
    assert only("ARG A\\\n B=2").pairs[0].name == "A"
    assert only("ARG A B=2").pairs == (Pair("A", None, 1), Pair("B", "2", 1))


def test_text_below_an_instruction_is_no_instruction():
    text = "FROM a\nRUN <<EOF\nCOPY nothing\n\tpip install x\nEOF\nCOPY <<-'A' <<B /x/\n\ta\n\tA\nb\nB\nUSER 1\n"
    assert lines_of(text) == [("FROM", 1, 1), ("RUN", 2, 5), ("COPY", 6, 10), ("USER", 11, 11)]
    run, copy = parse(text).instructions[1:3]
    assert run.heredocs[0].text == "COPY nothing\n\tpip install x\n"
    assert [(part.name, part.line, part.text) for part in copy.heredocs] == [("A", 7, "\ta\n"), ("B", 9, "b\n")]
    assert not only('RUN python -c "print(1 << n)" && cat <<< x && f $((1<<n))').heredocs
    assert parse("FROM a\nRUN <<EOF\nx\n").problems[0].line == 2


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "Dockerfile").write_bytes(b"FROM \xff\xfe")
    with pytest.raises(SourceError, match="not UTF-8"):
        dockerfile.read(tmp_path / "Dockerfile")
    with pytest.raises(SourceError, match="cannot be read"):
        dockerfile.read(tmp_path)


@given(ANY)
def test_no_text_at_all_stops_the_parser(text):
    read = parse(text)
    last = text.count("\n") + 1
    ends = 0
    for each in read.instructions:
        assert ends < each.line <= each.last_line <= last
        ends = each.last_line
        lines = [pair.line for pair in each.pairs] + [word.line for word in each.words]
        assert all(each.line <= line <= each.last_line for line in lines)
        list(shell.commands(each.text, each.line_at))
    plan = stages.plan(read)
    if plan is not None:
        list(plan.reached), plan.env, plan.cmd


@st.composite
def layouts(draw):
    """A file, and for each instruction: keyword, first line, and the line of every word."""
    lines, expected = [], []
    for _ in range(draw(st.integers(1, 5))):
        lines += draw(st.lists(st.sampled_from(["", "  ", "# a comment \\", "\t#"]), max_size=2))
        keyword = draw(st.sampled_from(KEYWORDS))
        first, words = len(lines) + 1, []
        text = draw(st.sampled_from(["", "  "])) + keyword
        for word in draw(st.lists(WORD, min_size=1, max_size=5)):
            if draw(st.booleans()):
                lines.append(f"{text} \\{draw(st.sampled_from(['', ' ']))}")
                lines += draw(st.lists(st.sampled_from(["", "   # why", "#"]), max_size=2))
                text = ""
            text += f" {word}"
            words.append((word, len(lines) + 1))
        lines.append(text)
        expected.append((keyword.upper(), first, words))
    return draw(st.sampled_from(["\n", "\r\n"])).join([*lines, ""]), expected


@given(layouts())
def test_every_word_keeps_its_line_whatever_the_layout(layout):
    text, expected = layout
    found = parse(text).instructions
    assert [(each.keyword, each.line, [(word.text, word.line) for word in each.words]) for each in found] == expected


@given(st.lists(layouts(), min_size=1, max_size=2))
def test_buildkits_own_parser_sees_the_same_lines(files):
    reference = pytest.importorskip("dockerfile")
    for text, _ in files:
        if "ENV" in text.upper():
            continue  # it stops at the first ENV without "="
        theirs = [(each.cmd.upper(), each.start_line) for each in reference.parse_string(text)]
        assert [(each.keyword, each.line) for each in parse(text).instructions] == theirs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$A/x", "1/x"),
        ('"${A}"', "1"),
        ("'$A'", "$A"),
        ("\\$A", "$A"),
        ('"\\$A $A"', "$A 1"),
        ("${NONE:-8080}", "8080"),
        ("${EMPTY:-8080}", "8080"),
        ("${EMPTY-8080}", ""),
        ("${A:-8080}", "1"),
        ("${A:+yes}", "yes"),
        ("$NONE", None),
        ("${UNKNOWN:-8080}", None),
        ("$(command)", None),
        ("a b", "a b"),
        ("$", "$"),
    ],
)
def test_variables_are_put_in_or_not_known(text, value):
    assert expanded(text, {"A": "1", "EMPTY": "", "UNKNOWN": None}) == value


def test_stages_inherit_and_the_image_keeps_what_is_last():
    plan = stages.plan(
        parse(
            "ARG BASE=python\nFROM $BASE:3.11 AS one\nENV A=1\nWORKDIR /x\nUSER 1\nCMD a\n"
            'FROM other AS two\nENV B=2\nFROM one\nENV A=$A$A\nWORKDIR y\nCOPY --from=two /a /a\nENTRYPOINT ["b"]\n'
        )
    )
    assert [stage.number for stage in plan.lineage] == [0, 2]
    assert [stage.number for stage in plan.reached] == [0, 1, 2]
    assert (plan.base, plan.folder, plan.env["A"].value, "B" in plan.env) == ("python:3.11", "/x/y", "11", False)
    assert plan.user.instruction.text == "1"
    assert plan.cmd is None, "an ENTRYPOINT forgets the CMD of what it starts from"
    assert stages.plan(parse("RUN a")) is None


def test_the_commands_of_a_shell():
    text = "set -e; A=1 pip install 'x y' \"z\" >/log \\\n && if [ -f b ]; then exec python -m c; fi & # no\ncat <<E\nrm -rf /\nE\n(d)"
    found = shell.commands(text, lambda offset: text.count("\n", 0, offset) + 1)
    assert [(each.texts, each.after, each.line) for each in found] == [
        (("set", "-e"), ";", 1),
        (("pip", "install", "x y", "z"), "&&", 1),
        (("[", "-f", "b", "]"), ";", 2),
        (("exec", "python", "-m", "c"), ";", 2),
        (("fi",), "&", 2),
        (("cat",), "\n", 3),
        (("d",), ")", 6),
    ]
    assert [word.text for word in found[1].targets] == ["/log"]
    assert [word.text for word in found[1].assignments] == ["A=1"]


@given(st.text("ab '\"\\$`();&|<>\n#=1", max_size=60))
def test_no_shell_text_stops_the_reader(text):
    for each in shell.commands(text, lambda offset: text.count("\n", 0, offset) + 1):
        assert 1 <= each.line <= text.count("\n") + 1


@given(st.lists(st.text(min_size=1, max_size=10), max_size=4))
def test_exec_words_are_those_that_were_written(words):
    assert only("CMD " + json.dumps(words)).exec == tuple(words)
