"""A network that is not there is told soon; one that goes away midway is waited for as long as anything that passes."""

import contextlib

import pytest
from google.api_core import exceptions

from cpr_kit.deploy.vertex.calls import Caller, Patience
from cpr_kit.errors import DeployError, DeployLacking

NOBODY = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:443: tcp handshaker shutdown",
    "errors resolving us-central1-aiplatform.googleapis.com:443: [field:hostname lookup error:address lookup failed "
    "for us-central1-aiplatform.googleapis.com:443: Could not contact DNS servers]",
    "errors resolving nothing.invalid:443: [field:hostname lookup error:address lookup failed for nothing.invalid:443: "
    "Domain name not found]",
)  # as gRPC 1.7x words them


class Fails:
    """A call that fails, and after so many times answers."""

    def __init__(self, error, times=1000):
        self.error, self.times, self.calls = error, times, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "answered"


def nobody(text=NOBODY[0], times=1000):
    return Fails(exceptions.ServiceUnavailable(text), times)


def caller(unreached_s):
    return Caller(Patience(first_s=0.01, longest_s=0.01, total_s=500.0, unreached_s=unreached_s))


@pytest.mark.parametrize("text", NOBODY)
def test_where_nothing_has_ever_answered_little_is_waited(text):
    call = nobody(text)
    with pytest.raises(DeployLacking, match="Google does not answer here: could not look: ") as caught:
        caller(0.0)("look", call)
    assert caught.value.exit_code == 3
    assert "HTTPS_PROXY where there is a proxy; it was tried for 0 s" in str(caught.value)
    assert call.calls == 1


def test_a_connection_that_is_refused_in_other_words_is_told_as_well():
    with pytest.raises(DeployLacking, match="could not look: .*Connection refused"):
        caller(0.0)("look", Fails(ConnectionRefusedError(111, "Connection refused")))


@pytest.mark.parametrize("means", [(), ("FailedPrecondition",)])
def test_what_vertex_ai_could_not_reach_is_its_own_refusal(means):
    error = exceptions.FailedPrecondition("the container's health check: connection refused on port 8080")
    with pytest.raises(exceptions.FailedPrecondition if means else DeployError) as caught:
        caller(0.0)("look", Fails(error), means=means)
    assert "Google does not answer" not in str(caught.value)


def test_a_network_that_comes_in_time_is_enough():
    assert caller(500.0)("look", nobody(times=3)) == "answered"


@pytest.mark.parametrize(
    "first", [None, exceptions.NotFound("no such endpoint"), exceptions.ServiceUnavailable("busy")]
)
def test_what_has_answered_once_is_waited_for(first):
    """As for a cut amid a deployment. A refusal is an answer too."""
    call = caller(0.0)
    with contextlib.suppress(DeployError):
        call("begin", Fails(first, times=1 if first else 0))
    assert call("go on", nobody(times=3)) == "answered"
