import pytest

from cpr_kit.config import Config, ServeSection
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
        ("[xyz]", "known are model, image, serve, deploy, check"),
        ("[model]\npredicter = 'p:P'", 'key "predicter" is unknown; did you mean "predictor"?'),
        ("[model]\npredictor = 1", "predictor is 1; it is a string"),
        ("[model]\ntrusted = 'yes'", 'trusted is "yes"; it is true or false'),
        ("[image]\nports = 8080", "ports is 8080; it is a list of whole numbers: [8080]"),
        ("[image]\nports = ['8080']", "it is a list of whole numbers"),
        ("[image]\nports = [true]", "it is a list of whole numbers"),
        ("[image]\nenv = { A = 1 }", "it is a table of strings"),
        ("model = 1", "is not a table"),
        ("[[check]]\nexpect = 'e.json'", "request is missing"),
        ("check = 1", "check"),
        ("[model", "cpr.toml"),
        ("[serve]\nworkers = 0", '[serve] workers is 0; it is "auto" or a whole number from 1 up'),
        ("[serve]\nworkers = 'four'", 'workers is "four"; it is "auto" or a whole number from 1 up'),
        ("[serve]\nworkers = true", "workers is true"),
        ("[serve]\nworkers = 2.0", "workers is 2.0"),
        ("[serve]\nmax_batch_rows = -1", "max_batch_rows is -1; it is a whole number from 1 up"),
        ("[serve]\nmax_batch_rows = '64'", 'max_batch_rows is "64"; it is a whole number from 1 up'),
        ("[serve]\nmax_batch_delay = -0.1", "max_batch_delay is -0.1; it is a number from 0 up"),
        ("[serve]\nmax_batch_delay = nan", "max_batch_delay is nan"),
        ("[serve]\nmax_batch_delay = inf", "max_batch_delay is inf"),
        (f"[serve]\nmax_batch_delay = 1{'0' * 400}", "it is a number from 0 up"),
        ("[serve]\nrequest_timeout = 0", "request_timeout (CPR_SERVE_REQUEST_TIMEOUT) is 0"),
        ("[serve]\nrequest_timeout = '60'", 'request_timeout is "60"; it is a number from 0 up'),
        ("[serve]\nrequest_timout = 6", 'key "request_timout" is unknown; did you mean "request_timeout"?'),
        ("[serve]\nendpoint_kind = 'private'", '"public" or "dedicated" or "psc" or "psa"'),
        ("[serve]\nlog_format = 'xml'", 'log_format is "xml"; it is "json" or "text"'),
        ("[serve]\nmetrics = 1", "metrics is 1; it is true or false"),
        ("[serve]\nwarmup = 'a.json'", 'warmup is "a.json"; it is a list of strings: ["a.json"]'),
        ("[serve]\nwarmup = ['a,b.json']", "a file's name has no comma"),
    ],
)
def test_what_is_wrong_is_named(read, text, message):
    with pytest.raises(ConfigError) as error:
        read(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CPR_MODEL_TRUSTED", "perhaps"),
        ("CPR_IMAGE_PORTS", "80,eighty"),
        ("CPR_SERVE_WORKERS", "0"),
        ("CPR_SERVE_MAX_QUEUE", "1.5"),
        ("CPR_SERVE_MAX_BODY", "1.5MB"),
        ("CPR_SERVE_MAX_BATCH_DELAY", "5ms"),
        ("CPR_SERVE_MAX_BATCH_DELAY", "nan"),
        ("CPR_SERVE_ENDPOINT_KIND", "Public"),
        ("CPR_SERVE_METRICS", "on"),
    ],
)
def test_a_variable_with_a_bad_value_is_named(read, name, value):
    with pytest.raises(ConfigError, match=f'{name} is "{value}"'):
        read("", {name: value})


def test_how_it_is_served_is_read(read):
    text = """
        [serve]
        workers = 4
        max_batch_rows = 64
        max_batch_delay = 0.005
        request_timeout = 30
        max_queue = 100
        endpoint_kind = "dedicated"
        max_body = 2_000_000
        warmup = ["requests/two_rows.json", "b.json"]
        metrics = true
        log_format = "json"
        """
    expected = ServeSection(
        workers=4,
        max_batch_rows=64,
        max_batch_delay=0.005,
        request_timeout=30.0,
        max_queue=100,
        endpoint_kind="dedicated",
        max_body=2_000_000,
        warmup=("requests/two_rows.json", "b.json"),
        metrics=True,
        log_format="json",
    )
    assert read(text).serve == expected
    variables = {
        "CPR_SERVE_WORKERS": "4",
        "CPR_SERVE_MAX_BATCH_ROWS": "64",
        "CPR_SERVE_MAX_BATCH_DELAY": "5e-3",
        "CPR_SERVE_REQUEST_TIMEOUT": "30",
        "CPR_SERVE_MAX_QUEUE": "100",
        "CPR_SERVE_ENDPOINT_KIND": "dedicated",
        "CPR_SERVE_MAX_BODY": "2000000",
        "CPR_SERVE_WARMUP": "requests/two_rows.json,b.json",
        "CPR_SERVE_METRICS": "1",
        "CPR_SERVE_LOG_FORMAT": "json",
    }
    assert read("", variables).serve == expected


def test_workers_are_a_number_or_auto_and_a_number_may_be_text(read):
    written = {text: read(f"[serve]\nworkers = {text}").serve.workers for text in ('"auto"', "3", '"3"')}
    assert written == {'"auto"': "auto", "3": 3, '"3"': 3}
    assert read("[serve]\nworkers = 3", {"CPR_SERVE_WORKERS": "auto"}).serve.workers == "auto"


def test_an_empty_variable_of_serve_leaves_what_the_file_says(read):
    environ = {"CPR_SERVE_WORKERS": "", "CPR_SERVE_REQUEST_TIMEOUT": "", "CPR_SERVE_LOG_FORMAT": ""}
    serve = read("[serve]\nworkers = 3\nrequest_timeout = 5\nlog_format = 'json'", environ).serve
    assert (serve.workers, serve.request_timeout, serve.log_format) == (3, 5.0, "json")


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(ConfigError, match="is not a folder"):
        Config.read(tmp_path / "nothing")


def test_an_empty_variable_leaves_a_value_that_must_be_there(read):
    image = read("", {"CPR_IMAGE_BASE": "", "CPR_IMAGE_TEMPLATE": "", "CPR_IMAGE_PLATFORM": ""}).image
    assert (image.base, image.template, image.platform) == ("python:3.11-slim", "python", "linux/amd64")


def test_the_platform_is_vertex_ais_unless_another_is_named(read):
    assert read("").image.platform == "linux/amd64"
    assert read('[image]\nplatform = "linux/arm64/v8"').image.platform == "linux/arm64/v8"
    for wrong in ("amd64", "windows/amd64", "linux/", "linux/amd64 --x", "linux/a/b/c"):
        with pytest.raises(ConfigError, match="it is written linux/amd64"):
            read("", {"CPR_IMAGE_PLATFORM": wrong})


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(read):
    assert read("\ufeff[image]\r\nname = 'n'\r\n").image.name == "n"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "cpr.toml").mkdir()
    with pytest.raises(ConfigError, match="cpr.toml cannot be read"):
        Config.read(tmp_path, {})


def test_pinned_digests_are_read_and_are_digests(read):
    first, second = f"sha256:{'0' * 64}", f"sha256:{'a' * 64}"
    assert read(f'[model]\ntrusted_digests = ["{first}"]').model.trusted_digests == (first,)
    assert read("", {"CPR_MODEL_TRUSTED_DIGESTS": f"{first},{second}"}).model.trusted_digests == (first, second)
    for wrong in ("abc", f"sha256:{'A' * 64}", f"{first}0"):
        with pytest.raises(ConfigError, match=f'CPR_MODEL_TRUSTED_DIGESTS. has "{wrong}"'):
            read(f'[model]\ntrusted_digests = ["{wrong}"]')
