import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.build import template
from cpr_kit.build.source import Source
from cpr_kit.contract import Reference
from cpr_kit.config import Config, ImageSection, ModelSection
from cpr_kit.errors import ConfigError, SpecError

TEXT = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]))


def source(tmp_path, **image):
    config = Config(folder=tmp_path, image=ImageSection(**image), model=ModelSection(trusted=True))
    return Source(config=config, predictor=Reference("serving.predictor", "Doubler"))


def unquoted(word):
    """Dockerfile ENV's reading of one double-quoted word: escapes of \\, " and $; a bare $ would expand."""
    assert word[0] == word[-1] == '"'
    out, rest = "", word[1:-1]
    while rest:
        if rest[0] == "\\" and rest[1:2] and rest[1] in '\\"$':
            out, rest = out + rest[1], rest[2:]
            continue
        assert rest[0] not in '"$', "ends or expands"
        assert rest != "\\", "continues on the next line"
        out, rest = out + rest[0], rest[1:]
    return out


@given(TEXT)
def test_any_value_arrives_as_it_is(value):
    assert unquoted(template.quoted("NAME", value)) == value


@given(st.dictionaries(st.from_regex(r"B[A-Z_0-9]{0,5}", fullmatch=True), TEXT))
def test_a_variable_is_one_instruction_on_one_line(env):
    lines = template.instructions(env).split("\n")[:-1]
    assert len(lines) == len(env)
    assert all(line.startswith(f"ENV {name}=") for line, name in zip(lines, env, strict=True))


@pytest.mark.parametrize("value", ["a\nUSER root", "a\rb", "a\0b", "\udc80"])
def test_a_value_that_no_instruction_can_hold_is_refused(value):
    with pytest.raises(ConfigError, match=r"\[image\] env NAME is "):
        template.instructions({"NAME": value})


@pytest.mark.parametrize("name", ["A B", "A=1", "A\nUSER", "AIP_HTTP_PORT", "", "A-B"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(SpecError):
        template.instructions({name: "x"})


def test_a_reference_waits_for_the_container():
    env = {"A": "$(AIP_HTTP_PORT)", "B": "$$(A)", "C": "$A ${A} $(", "D": "x"}
    assert set(template.baked(env)) == {"C", "D"}


def test_values_enter_as_build_arguments_and_the_text_stays_the_templates(tmp_path):
    text, arguments = template.render(source(tmp_path, base="cuda:12", ports=(9000, 9001), env={"A": "1"}))
    assert text == (template.find("python") / "Dockerfile").read_text() + 'ENV A="1"\n'
    assert arguments == {
        "BASE_IMAGE": "cuda:12",
        "KIT_PACKAGES": "fastapi",
        "PORTS": "9000 9001",
        "PREDICTOR_MODULE": "serving.predictor",
        "PREDICTOR_CLASS": "Doubler",
        "CPR_MODEL_TRUSTED": "true",
    }


def test_every_build_argument_is_one_of_the_templates(tmp_path):
    everything = dataclasses.replace(source(tmp_path), handler=Reference("a", "B"), preprocessor=Reference("a", "B"))
    text, arguments = template.render(everything)
    declared = {line.split()[1].partition("=")[0] for line in text.splitlines() if line.startswith("ARG ")}
    assert set(arguments) == declared


def test_templates_take_what_every_builder_takes():
    for path in [*template.folder().glob("python/Dockerfile"), template.base()]:
        text = path.read_text()
        for word in ("--mount", "<<", "syntax=", "--link", "--chmod"):
            assert word not in text, path


def test_an_unknown_template_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r'"pyhton" is unknown; there are: .*python.*; did you mean "python"\?'):
        template.find("pyhton")
