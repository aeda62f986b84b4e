"""docs/emulator_parity.md says what is true: of every call of the SDK's table, every field, every setting."""

import dataclasses
import os
import re
from pathlib import Path

import grpc
import pytest
from emu_control import HOST, emulator  # noqa: F401 - a fixture

from cpr_kit.emulator import catalogue, messages
from cpr_kit.emulator.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "emulator_parity.md").read_text()
STATES = {"served", "refused", "not served"}
MIXED_IN = {
    "Operations": ("google.longrunning", ("Get", "List", "Wait", "Cancel", "Delete")),
    "Locations": ("google.cloud.location", ("Get", "List")),
}
MESSAGES = [
    *("UploadModelRequest", "Model", "ModelContainerSpec", "Probe", "CreateEndpointRequest", "Endpoint"),
    *("PrivateServiceConnectConfig", "DeployModelRequest", "UndeployModelRequest", "MutateDeployedModelRequest"),
    *("DeployedModel", "DedicatedResources", "BatchPredictionJob"),
]


def section(title):
    level = title.partition(" ")[0]
    found = re.search(rf"^{re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"no section {title}"
    return found[1]


def rows(text):
    """The cells of each row of the tables in it, without their heads."""
    for line in text.splitlines():
        if line.startswith("|") and not re.match(r"\|[-|]+\|$", line):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def named(cell):
    return re.findall(r"`([^`]+)`", cell)


CALLS = [(name, row) for row in rows(section("## 1. Calls").split("### ")[0]) for name in named(row[0])]


@pytest.fixture(scope="module")
def table():
    return catalogue.load()


def test_every_call_is_in_the_table_once_with_its_state(table):
    known = [method.name for method in table.methods.values()]
    assert sorted(name for name, _ in CALLS if name.split(".")[0] not in MIXED_IN) == sorted(known)
    assert {row[2] for _, row in CALLS} == STATES
    assert all(row[3] for _, row in CALLS)


def test_the_paths_in_the_table_lead_to_their_calls(table):
    checked = 0
    for name, row in CALLS:
        match = re.fullmatch(r"(\w+) `(/[^`]+)`", row[1])
        if match and name.split(".")[0] not in MIXED_IN:
            binding, _ = table.find(match[1], f"/projects/p/locations/l{match[2]}")
            assert binding.method.name == name
            checked += 1
    assert checked > 25


def asked(channel, package, name, method):
    """The status of a call with an empty request, by bytes."""
    service, call = name.split(".")
    kinds = ("unary", "stream")
    streams = (method.client_streams, method.server_streams) if method else (False, False)
    path = f"/{package}.{service}/{call}"
    ask = getattr(channel, f"{kinds[streams[0]]}_{kinds[streams[1]]}")(path)
    try:
        answer = ask(iter([b""]) if streams[0] else b"", timeout=20)
        list(answer) if streams[1] else None
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_what_is_said_to_be_served_is_and_nothing_else(emulator, table, version):
    methods = {method.name: method for method in table.methods.values()}
    roots = Path(os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]).read_bytes()
    credentials = grpc.ssl_channel_credentials(roots)
    with grpc.secure_channel(f"{HOST}:443", credentials) as channel:
        for name, row in CALLS:
            service = name.split(".")[0]
            package = MIXED_IN[service][0] if service in MIXED_IN else f"google.cloud.aiplatform.{version}"
            code, words = asked(channel, package, name, methods.get(name))
            assert code is not grpc.StatusCode.INTERNAL, (name, words)
            assert code is not grpc.StatusCode.UNKNOWN, (name, words)
            assert (code is grpc.StatusCode.UNIMPLEMENTED) is (row[2] == "not served"), (name, code, words)
            if row[2] == "not served":
                assert name in words


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_is_in_the_tables(name):
    told = [field for row in rows(section(f"### {name}")) for field in named(row[0])]
    assert sorted(told) == sorted(field.name for field in getattr(messages, name).DESCRIPTOR.fields)


def test_every_setting_is_named_with_its_default():
    settings = section("## 5. Settings")
    told = {named(row[0])[0]: row[1].strip("`") for row in rows(settings) if named(row[0])}
    known = {field.name: repr(field.default) for field in dataclasses.fields(Settings)}
    known["max_replicas"] = "the number of processors"
    assert told == known


def test_tests_that_are_named_exist():
    here = {path.stem for path in Path(__file__).parent.glob("test_*.py")}
    assert set(re.findall(r"`(test_emu_\w+)`", PAGE)) <= here
