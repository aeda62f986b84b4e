"""The four Custom Prediction Routine tutorials, each trained, built, run and asked."""

import contextlib
import json
from pathlib import Path

import pytest

from cpr_kit.config import Config
from cpr_kit.errors import EngineUnavailable
from cpr_kit.harness import checks
from cpr_kit.harness.target import Target, samples_of

CONTAINERS = Path(__file__).parents[2] / "containers"
VARIANTS = ("sklearn_preprocessor", "sklearn_predictor", "sklearn_handler", "sklearn_dockerfile")
EXPECTED = {"predictions": ["versicolor", "setosa"]}
CASES = [
    pytest.param((variant, engine), id=f"{variant}-{engine}", marks=[pytest.mark.engine] * (engine == "docker"))
    for variant in VARIANTS
    for engine in ("docker", "process")
    if (variant, engine) != ("sklearn_dockerfile", "process")
]


class Served:
    """A variant that runs: ask it as its requests are written, CSV or JSON."""

    def __init__(self, folder, engine, endpoint):
        self.folder, self.engine, self.endpoint = folder, engine, endpoint
        self.speaks_csv = (folder / "requests" / "two_rows.csv").exists()

    def ask(self, rows):
        if self.speaks_csv:
            text = "".join(",".join(map(str, row)) + "\n" for row in rows)
            return self.endpoint.raw(text.encode(), "text/csv")
        return self.endpoint.predict({"instances": rows})


@pytest.fixture(scope="module")
def served(request, variant, build):
    name, engine = request.param
    folder = variant(name)
    with build(folder, engine).deploy_to_local_endpoint() as endpoint:
        yield Served(folder, engine, endpoint)


@pytest.mark.parametrize("served", CASES, indirect=True)
def test_the_two_rows_of_the_tutorial_are_named(served):
    (request,) = (served.folder / "requests").glob("two_rows.[cj]s*")

    response = served.endpoint.predict(request_file=request)

    assert (response.status_code, response.json()) == (200, EXPECTED)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("served", CASES, indirect=True)
def test_every_iris_row_is_answered_as_the_same_predictor_answers_in_this_process(served, load_predictor):
    from sklearn.datasets import load_iris

    predictor = load_predictor(served.folder)
    rows = load_iris().data.tolist()

    here = [predictor.postprocess(predictor.predict(predictor.preprocess({"instances": [row]}))) for row in rows]

    assert len(rows) == 150
    assert [served.ask([row]).json() for row in rows] == here
    assert served.ask(rows).json() == {"predictions": [answer["predictions"][0] for answer in here]}


@pytest.mark.parametrize("served", CASES, indirect=True)
def test_health_is_200(served):
    assert served.endpoint.run_health_check().status_code == 200


@pytest.mark.parametrize("served", CASES, indirect=True)
@pytest.mark.parametrize("rows", [[[1.0, 2.0, 3.0]], [[1.0]], [[1.0, 2.0, 3.0, 4.0, 5.0]]])
def test_a_row_of_another_width_is_the_callers_mistake(served, rows):
    """One value alone would be broadcast by a scaler of numpy arrays, and taken for four."""
    response = served.ask(rows)

    assert response.status_code == 400
    assert response.json()["error"]["message"] == f"instance 0 has {len(rows[0])} values; 4 are wanted"


@pytest.mark.parametrize("served", CASES, indirect=True)
def test_the_contract_holds(served):
    found = checks.run(Target.of(served.endpoint), samples_of(Config.read(served.folder)))

    assert [(check.name, check.detail) for check in found if check.severity != "ok"] == []
    assert any(check.name.startswith("expected requests/two_rows") for check in found)


@pytest.mark.parametrize("served", [case for case in CASES if "sklearn_handler" in case.id], indirect=True)
@pytest.mark.parametrize("label", ["text/csv", "text/csv; charset=utf-8", "application/json"])
def test_csv_is_read_under_either_label(served, label):
    response = served.endpoint.raw((served.folder / "requests" / "two_rows.csv").read_bytes(), label)

    assert (response.status_code, response.json()) == (200, EXPECTED)


@pytest.mark.parametrize("served", [case for case in CASES if "sklearn_handler" in case.id], indirect=True)
@pytest.mark.parametrize(("body", "reason"), [(b"6.7,3.1,x,1.5\n", "x"), (b"1,2,3\n", "3 values; 4 are wanted")])
def test_csv_that_is_wrong_is_the_callers_mistake(served, body, reason):
    response = served.endpoint.raw(body, "text/csv")

    assert response.status_code == 400
    assert reason in response.json()["error"]["message"]


@pytest.mark.parametrize(("name", "engine"), [pytest.param(*case.values[0], marks=case.marks) for case in CASES])
def test_a_run_changes_nothing_and_leaves_nothing_but_its_log(
    variant, build, snapshot, nothing_is_left, name, engine, capsys
):
    folder = variant(name)
    before = snapshot(folder)

    with build(folder, engine).deploy_to_local_endpoint() as endpoint:
        assert endpoint.run_health_check().status_code == 200

    assert snapshot(folder) == before
    assert endpoint.get_container_status() == "removed"
    endpoint.print_container_logs(show_all=True)
    assert "the model is ready" in capsys.readouterr().out


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.engine
def test_images_name_an_unprivileged_user_and_the_port(variant, build, engine_named, name):
    import docker

    model = build(variant(name), "docker")

    with contextlib.closing(docker.from_env()) as client:
        config = client.images.get(model.spec.image_uri).attrs["Config"]
    assert config["User"].partition(":")[0] == "65534"
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert not [entry for entry in config["Env"] if entry.startswith(("AIP_", "PIP_"))]


def test_a_dockerfile_of_ones_own_needs_a_container_engine(variant, build):
    with pytest.raises(EngineUnavailable, match="Dockerfile"):
        build(variant("sklearn_dockerfile"), "process")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_takes_at_most_15_lines_beside_training(name):
    files = [path for path in (CONTAINERS / name).glob("*.py") if path.name != "train.py"]
    lines = [line.strip() for path in files for line in path.read_text().splitlines()]

    assert files
    assert len([line for line in lines if line and not line.startswith("#")]) <= 15


@pytest.mark.parametrize("name", VARIANTS)
def test_requests_are_those_of_the_tutorial(name):
    requests = CONTAINERS / name / "requests"
    if (requests / "two_rows.csv").exists():
        rows = [[float(word) for word in line.split(",")] for line in (requests / "two_rows.csv").read_text().split()]
    else:
        rows = json.loads((requests / "two_rows.json").read_text())["instances"]

    assert rows == [[6.7, 3.1, 4.7, 1.5], [4.6, 3.1, 1.5, 0.2]]
    assert json.loads((requests / "two_rows.expected.json").read_text()) == EXPECTED
