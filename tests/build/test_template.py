import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.build import template
from cpr_kit.build.source import Source
from cpr_kit.contract import Reference
from cpr_kit.config import Config, ImageSection, ModelSection, ServeSection
from cpr_kit.errors import ConfigError, SpecError
from cpr_kit.runtime.settings import Settings

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
        "PORTS": "9000 9001",
        "PREDICTOR_MODULE": "serving.predictor",
        "PREDICTOR_CLASS": "Doubler",
        "CPR_MODEL_TRUSTED": "true",
    }


SERVE = ServeSection(
    workers=4,
    max_batch_rows=64,
    max_batch_delay=0.005,
    request_timeout=30.0,
    max_queue=100,
    endpoint_kind="dedicated",
    max_body=2_000_000,
    warmup=("requests/two_rows.json", 'odd " $name.json'),
    metrics=True,
    log_format="json",
)


def test_what_serve_sets_is_appended_and_the_users_own_environment_wins(tmp_path):
    given = source(tmp_path, env={"CPR_SERVE_MAX_QUEUE": "7"})
    given = dataclasses.replace(given, config=dataclasses.replace(given.config, serve=SERVE))
    text, arguments = template.render(given)
    appended = dict(
        line.removeprefix("ENV ").split("=", 1)
        for line in text.removeprefix((template.find("python") / "Dockerfile").read_text()).splitlines()
    )
    assert {name: unquoted(word) for name, word in appended.items()} == {
        "VERTEX_CPR_WEB_CONCURRENCY": "4",
        "CPR_SERVE_MAX_BATCH_ROWS": "64",
        "CPR_SERVE_MAX_BATCH_DELAY": "0.005",
        "CPR_SERVE_REQUEST_TIMEOUT": "30.0",
        "CPR_SERVE_MAX_QUEUE": "7",
        "CPR_SERVE_ENDPOINT_KIND": "dedicated",
        "CPR_SERVE_MAX_BODY": "2000000",
        "CPR_SERVE_WARMUP": 'requests/two_rows.json,odd " $name.json',
        "CPR_SERVE_METRICS": "true",
        "CPR_SERVE_LOG_FORMAT": "json",
    }
    assert not any(name.startswith("CPR_SERVE") for name in arguments)


def test_defaults_of_serve_are_in_no_image(tmp_path):
    assert template.serving(Config(folder=tmp_path)) == {}
    assert set(template.environment(source(tmp_path))) == {"CPR_MODEL_TRUSTED", "PREDICTOR_MODULE", "PREDICTOR_CLASS"}


def test_the_server_reads_what_serve_says(tmp_path):
    settings = Settings.from_environ(template.serving(Config(folder=tmp_path, serve=SERVE)))
    for key in ServeSection.defaults():
        if key != "workers":
            assert getattr(settings, key) == getattr(SERVE, key), key


def test_both_sides_have_the_same_defaults():
    settings = Settings()
    for key, default in ServeSection.defaults().items():
        if default is not None and key != "workers":
            assert getattr(settings, key) == default, key


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


def test_pinned_digests_reach_the_server(tmp_path):
    digests = (f"sha256:{'0' * 64}", f"sha256:{'a' * 64}")
    given = Source(config=Config(folder=tmp_path, model=ModelSection(trusted_digests=digests)))
    assert Settings.from_environ(template.environment(given)).trusted_digests == digests
    text, arguments = template.render(given)
    assert text.endswith(f'ENV CPR_MODEL_TRUSTED_DIGESTS="{",".join(digests)}"\n')
    assert "CPR_MODEL_TRUSTED_DIGESTS" not in arguments
