import pytest

from cpr_kit.errors import StartError
from cpr_kit.runtime.settings import Settings


def test_an_empty_environment_has_the_defaults():
    settings = Settings.from_environ({})
    assert settings == Settings()
    assert (settings.request_timeout, settings.max_queue, settings.max_batch_rows) == (60.0, 1024, None)
    assert (settings.warmup, settings.metrics, settings.log_format) == ((), False, None)
    names = ("MAX_BATCH_ROWS", "MAX_BODY", "REQUEST_TIMEOUT", "WARMUP", "METRICS", "ENDPOINT_KIND", "LOG_FORMAT")
    assert Settings.from_environ({f"CPR_SERVE_{name}": "" for name in names}) == settings


@pytest.mark.parametrize(
    ("kind", "size"), [("public", 1_500_000), ("dedicated", 10_000_000), ("psc", 10_000_000), ("psa", 10_000_000)]
)
def test_the_kind_of_endpoint_says_how_long_a_body_may_be(kind, size):
    assert Settings.from_environ({"CPR_SERVE_ENDPOINT_KIND": kind}).max_body == size
    assert Settings.from_environ({"CPR_SERVE_ENDPOINT_KIND": kind, "CPR_SERVE_MAX_BODY": "7"}).max_body == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_BATCH_ROWS", "0"),
        ("MAX_BATCH_ROWS", "-1"),
        ("MAX_BATCH_ROWS", "²"),
        ("MAX_BODY", "1.5MB"),
        ("MAX_BODY", "9" * 5000),
        ("MAX_QUEUE", "none"),
        ("MAX_BATCH_DELAY", "-1"),
        ("MAX_BATCH_DELAY", "5ms"),
        ("MAX_BATCH_DELAY", "nan"),
        ("REQUEST_TIMEOUT", "0"),
        ("REQUEST_TIMEOUT", "inf"),
        ("ENDPOINT_KIND", "private"),
        ("METRICS", "perhaps"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_bad_value_is_refused_with_the_variables_name(name, value):
    with pytest.raises(StartError) as error:
        Settings.from_environ({f"CPR_SERVE_{name}": value})
    assert error.value.cause == f'CPR_SERVE_{name} is "{value}"'
    assert "set it to" in error.value.remedy
