"""The calls that tutorials make, and the names of 2022."""

import ast
import inspect
import types
from pathlib import Path

import pytest

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.harness.endpoint import LocalEndpoint

DRIVERS = sorted((Path(__file__).parent / "drivers").glob("*.py"))
RECEIVERS = {"LocalModel": LocalModel, "local_model": LocalModel, "local_endpoint": LocalEndpoint}


def calls():
    for path in DRIVERS:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            if isinstance(function, ast.Attribute) and getattr(function.value, "id", "") in RECEIVERS:
                yield pytest.param(RECEIVERS[function.value.id], function.attr, node, id=f"{path.stem}:{node.lineno}")
            elif getattr(function, "id", "") == "LocalModel":
                yield pytest.param(LocalModel, "__init__", node, id=f"{path.stem}:{node.lineno}")


@pytest.mark.parametrize(("kind", "name", "call"), [*calls()])
def test_every_call_of_the_tutorials_is_one_that_the_kit_takes(kind, name, call):
    """D1."""
    described = inspect.signature(getattr(kind, name))
    arguments = [object()] * len(call.args)
    if not isinstance(inspect.getattr_static(kind, name), classmethod):
        arguments.insert(0, object())

    described.bind(*arguments, **{keyword.arg: object() for keyword in call.keywords})


def test_the_tutorials_call_what_is_listed():
    names = {parameter.values[1] for parameter in calls()}
    assert names >= {
        *("__init__", "build_cpr_model", "create", "create_cpr_model", "deploy_to_local_endpoint", "upload"),
        *("get_serving_container_spec", "serve", "stop", "predict", "run_health_check", "print_container_logs"),
        *("print_container_logs_if_container_is_not_running", "get_container_status"),
    }


def test_create_makes_a_model_and_names_its_successor():
    """D5."""
    with pytest.warns(DeprecationWarning, match=r"LocalModel\.create is a name of 2022; write LocalModel\("):
        model = LocalModel.create("image:1", "/p", "/h", ["c"], ["a"], {"A": "1"}, [9000])

    spec = model.spec
    assert (spec.image_uri, spec.predict_route, spec.health_route) == ("image:1", "/p", "/h")
    assert (spec.command, spec.args, dict(spec.env), spec.ports) == (("c",), ("a",), {"A": "1"}, (9000,))


def test_create_cpr_model_builds_as_build_cpr_model_does(tmp_path):
    (tmp_path / "predictor.py").write_text(
        "from google.cloud.aiplatform.prediction.predictor import Predictor\n"
        "class P(Predictor):\n    def load(self, artifacts_uri): pass\n    def predict(self, x): return x\n"
    )
    built = []
    engine = types.SimpleNamespace(name="recorder", build=lambda build, output: built.append(build.tag))
    with (
        pytest.warns(DeprecationWarning, match="write LocalModel.build_cpr_model"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("cpr_kit.engine.choose.choose", lambda: types.SimpleNamespace(engine=engine))
        model = LocalModel.create_cpr_model(str(tmp_path), "serving/iris:1", predictor="predictor:P")

    assert built == ["serving/iris:1"]
    assert model.spec.image_uri == "serving/iris:1"
