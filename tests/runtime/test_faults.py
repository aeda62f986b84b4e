import pytest

from cpr_kit.errors import RequestError
from cpr_kit.runtime import faults


@pytest.mark.parametrize("message", ["plain", ValueError("bad row"), "a lone surrogate \ud800"])
def test_any_message_keeps_its_status(message):
    assert faults.respond(RequestError(message)).status_code == 400
