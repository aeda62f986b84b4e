import pytest

from cpr_kit.config import Config
from cpr_kit.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    def read_text(text, environ=()):
        (tmp_path / "cpr.toml").write_text(text)
        return Config.read(tmp_path, dict(environ))

    return read_text


def test_a_folder_without_cpr_toml_has_the_defaults(tmp_path):
    config = Config.read(tmp_path, {})
    assert config == Config(folder=tmp_path)
    assert config.image.ports == (8080,)


def test_every_key_is_read(read, tmp_path):
    config = read(
        """
        [model]
        predictor = "p:P"
        artifacts = "model/"
        extra_packages = ["a.whl"]
        trusted = true
        [image]
        name = "n"
        env = { A = "1" }
        ports = [9000, 9001]
        [[check]]
        request = "r.csv"
        content_type = "text/csv"
        """
    )
    assert (config.model.predictor, config.model.extra_packages, config.model.trusted) == ("p:P", ("a.whl",), True)
    assert (config.image.name, config.image.env, config.image.ports) == ("n", {"A": "1"}, (9000, 9001))
    assert [(check.request, check.expect, check.content_type) for check in config.checks] == [
        ("r.csv", None, "text/csv")
    ]
    assert config.artifact_uri == str(tmp_path / "model/")


def test_artifacts_in_a_bucket_stay_as_they_are(read):
    assert read('[model]\nartifacts = "gs://b/m"').artifact_uri == "gs://b/m"
    assert read("").artifact_uri is None


def test_the_environment_wins_over_the_file(read):
    environ = {"CPR_IMAGE_BASE": "mine", "CPR_MODEL_TRUSTED": "false", "CPR_IMAGE_PORTS": "1,2", "CPR_IMAGE_NAME": ""}
    config = read('[model]\ntrusted = true\n[image]\nbase = "theirs"\nname = "n"', environ)

    assert (config.image.base, config.model.trusted, config.image.ports, config.image.name) == (
        "mine",
        False,
        (1, 2),
        None,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[modle]", 'section "modle" is unknown; did you mean "model"?'),
        ("[xyz]", "known are model, image, check"),
        ("[model]\npredicter = 'p:P'", 'key "predicter" is unknown; did you mean "predictor"?'),
        ("[model]\npredictor = 1", "predictor is 1; it is a string"),
        ("[model]\ntrusted = 'yes'", "trusted is 'yes'; it is true or false"),
        ("[image]\nports = 8080", "ports is 8080; it is a list of int"),
        ("[image]\nports = ['8080']", "it is a list of int"),
        ("[image]\nports = [true]", "it is a list of int"),
        ("[image]\nenv = { A = 1 }", "it is a table of strings"),
        ("model = 1", "is not a table"),
        ("[[check]]\nexpect = 'e.json'", "request is missing"),
        ("check = 1", "check"),
        ("[model", "cpr.toml"),
    ],
)
def test_what_is_wrong_is_named(read, text, message):
    with pytest.raises(ConfigError) as error:
        read(text)
    assert message in str(error.value)


@pytest.mark.parametrize(("name", "value"), [("CPR_MODEL_TRUSTED", "perhaps"), ("CPR_IMAGE_PORTS", "80,eighty")])
def test_a_variable_with_a_bad_value_is_named(read, name, value):
    with pytest.raises(ConfigError, match=f'{name} is "{value}"'):
        read("", {name: value})


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(ConfigError, match="is not a folder"):
        Config.read(tmp_path / "nothing")


def test_an_empty_variable_leaves_a_value_that_must_be_there(read):
    image = read("", {"CPR_IMAGE_BASE": "", "CPR_IMAGE_TEMPLATE": "", "CPR_IMAGE_PLATFORM": ""}).image
    assert (image.base, image.template, image.platform) == ("python:3.11-slim", "python", None)


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(read):
    assert read("\ufeff[image]\r\nname = 'n'\r\n").image.name == "n"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "cpr.toml").mkdir()
    with pytest.raises(ConfigError, match="cpr.toml cannot be read"):
        Config.read(tmp_path, {})
