import subprocess
import sys

import pytest

from cpr_kit.contract import ContainerSpec


def test_the_fixture_serves_an_image_and_a_specification(local_endpoint, scripts, server):
    image = server("healthy")
    spec = ContainerSpec.kit(image)
    first = local_endpoint(image, engine=scripts)
    second = local_endpoint(spec, engine=scripts, container_ready_check_interval=0.02)
    assert first.assigned_host_port != second.assigned_host_port
    assert second.predict(instances=[[1]]).predictions == [1]


def test_whatever_it_started_is_stopped_when_the_test_ends(scripts, server):
    from cpr_kit.compat.pytest_plugin import local_endpoint

    fixture = local_endpoint.__wrapped__()
    start = next(fixture)
    started = [start(server("healthy"), engine=scripts) for _ in range(2)]
    fixture.close()
    assert [one.get_container_status() for one in started] == ["removed"] * 2


def test_the_plugin_loads_no_tool_before_it_is_used():
    code = "import sys, cpr_kit.compat.pytest_plugin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tools = {
        "cpr_kit.compat.local_model",
        "cpr_kit.harness",
        "cpr_kit.engine",
        "docker",
        "requests",
        "numpy",
        "starlette",
    }
    assert not tools & set(done.stdout.split())


def test_the_fixture_is_found_by_pytest_itself(pytestconfig):
    if not any(name == "cpr_kit" for name, _ in pytestconfig.pluginmanager.list_name_plugin()):
        pytest.skip("the package is not installed, only on the path")
    assert pytestconfig.pluginmanager.get_plugin("cpr_kit").__name__ == "cpr_kit.compat.pytest_plugin"
