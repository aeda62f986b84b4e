import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpr_kit import container_message
from cpr_kit.contract import ContainerSpec, Probe
from cpr_kit.errors import MissingExtra, SpecError

model = pytest.importorskip("google.cloud.aiplatform_v1.types.model")

WORDS = st.text("abc$(){}/é ", max_size=8)
SECONDS = st.integers(1, 100).map(float)
ACTIONS = st.one_of(
    st.fixed_dictionaries({"exec": st.lists(WORDS, min_size=1, max_size=3).map(tuple)}),
    st.fixed_dictionaries(
        {"http_path": WORDS, "port": st.none() | st.integers(1, 65535), "http_headers": st.dictionaries(WORDS, WORDS)}
    ),
    st.fixed_dictionaries({"tcp": st.just(True), "port": st.none() | st.integers(1, 65535)}),
)
PROBES = st.builds(
    lambda action, **rest: Probe(**action, **rest),
    ACTIONS,
    period_s=SECONDS,
    timeout_s=SECONDS,
    failure_threshold=st.integers(1, 9),
    success_threshold=st.integers(1, 9),
    initial_delay_s=st.integers(0, 9).map(float),
)
PORTS = st.lists(st.integers(1, 65535), max_size=2).map(tuple)
SPECS = st.builds(
    ContainerSpec,
    image_uri=st.just("repository/image:1"),
    command=st.lists(WORDS, max_size=2).map(tuple),
    args=st.lists(WORDS, max_size=2).map(tuple),
    env=st.dictionaries(st.sampled_from(["A", "B_1", "_c"]), WORDS),
    ports=PORTS,
    grpc_ports=PORTS,
    predict_route=st.none() | st.just("/p"),
    health_route=st.none() | st.just("/h"),
    shared_memory_size_mb=st.none() | st.integers(1, 999),
    deployment_timeout_s=st.none() | st.integers(1, 7200),
    startup_probe=st.none() | PROBES,
    health_probe=st.none() | PROBES,
    liveness_probe=st.none() | PROBES,
)


@given(SPECS)
@settings(max_examples=60, deadline=None)
def test_a_specification_survives_the_way_there_and_back(spec):
    assert container_message.read(container_message.write(spec)) == spec


def test_the_order_of_the_environment_survives():
    spec = ContainerSpec(image_uri="x", env={"B": "1", "A": "$(B)"})
    assert list(container_message.read(container_message.write(spec)).env) == ["B", "A"]


def test_a_probes_defaults_are_the_apis():
    message = model.ModelContainerSpec(
        image_uri="x", health_probe=model.Probe(tcp_socket=model.Probe.TcpSocketAction())
    )
    assert container_message.read(message).health_probe == Probe(tcp=True)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"startup_probe": model.Probe(grpc=model.Probe.GrpcAction(port=1))}, "gRPC"),
        ({"invoke_route_prefix": "/*"}, "invoke_route_prefix"),
        ({"health_probe": model.Probe(period_seconds=3)}, "one action"),
    ],
)
def test_what_cannot_be_run_here_is_refused(fields, reason):
    with pytest.raises(SpecError, match=reason):
        container_message.read(model.ModelContainerSpec(image_uri="x", **fields))


def test_without_the_sdk_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud.aiplatform_v1.types", None)
    with pytest.raises(MissingExtra, match=r"cpr-kit\[vertex\]"):
        container_message.write(ContainerSpec(image_uri="x"))
