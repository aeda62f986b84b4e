"""`cpr inspect` and `cpr warmup` on real SavedModels, without TensorFlow."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from cpr_kit.cli import models
from cpr_kit.cli.inspect import command as inspect
from cpr_kit.cli.warmup import command as warmup
from cpr_kit.errors import CprError, UsageError
from cpr_kit.runtime.frameworks import catboost, lightgbm, onnx, sklearn, xgboost
from cpr_kit.savedmodel import body, reader

MODELS = Path(__file__).parents[1] / "savedmodel" / "models"
PREDICT = {
    "signature_name": "predict",
    "instances": [
        {
            "body_mass_g": 0.0, "culmen_depth_mm": 0.0, "culmen_length_mm": 0.0, "flipper_length_mm": 0.0,
            "island": "text", "sex": "text",
        }  # fmt: skip
    ],
}  # fmt: skip


def run(command, *arguments):
    result = CliRunner().invoke(command, [*map(str, arguments)], catch_exceptions=True)
    if isinstance(result.exception, CprError):
        raise result.exception
    return result


def test_a5_2_the_printed_body_is_what_the_model_takes():
    """Its last line, copied as it stands."""
    text = run(inspect, MODELS / "penguins", "--signature", "predict").stdout
    lines = text.splitlines()
    printed = lines[lines.index('a body for "predict":') + 1]
    assert json.loads(printed) == PREDICT
    assert body.check(reader.read(MODELS / "penguins").signatures, printed.encode()) == []
    assert "by rawPredict alone: cpr predict ENDPOINT --raw FILE.json" in text


def test_the_signatures_are_listed():
    text = run(inspect, MODELS / "penguins").stdout
    assert text.startswith(f"{MODELS / 'penguins/1'}  SavedModel of TensorFlow 2.21.0\n  version    1\n")
    assert "  prebuilt   tf2-cpu.2-15, tf2-cpu.2-14, tf_opt-cpu.nightly, tf_opt-cpu.2-17\n" in text
    assert "  note       the newest prebuilt image has TensorFlow 2.17, which need not read" in text
    assert "  takes  flipper_length_mm  float32   any\n" in text
    assert "  gives  probabilities      float32   any x 3\n" in text
    assert 'a body for "serving_default":' in text
    assert 'note: "examples" is a serialised tf.train.Example of body_mass_g float32, culmen_depth_mm float32' in text


def test_the_body_alone_for_a_pipe_or_a_file(tmp_path):
    result = run(inspect, MODELS / "penguins", "--signature", "predict", "--body", "-")
    assert json.loads(result.stdout) == PREDICT
    file = tmp_path / "body.json"
    text = run(inspect, MODELS / "shapes", "--signature", "pixels", "--body", file).stdout
    assert f'{file}  written, a body for "pixels"' in text
    assert len(json.loads(file.read_text())["instances"][0]["pixels"]) == 32
    assert "has 11,385 bytes; --body FILE writes it" in run(inspect, MODELS / "shapes", "--signature", "pixels").stdout


def test_as_json():
    value = json.loads(run(inspect, MODELS / "shapes", "--json").stdout)
    assert value["signatures"]["serving_default"]["inputs"]["scale"] == {
        "dtype": "float32",
        "shape": [],
        "optional": False,
    }
    assert value["example"]["body"] == {"inputs": {"scale": 0.0, "x": [[[0.0] * 3] * 2]}}


def test_a_body_too_large_for_an_endpoint_is_noted(tmp_path):
    from cpr_kit.savedmodel import messages

    saved = messages.new("SavedModel")
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    for name, side in (("serving_default", 1024), ("huge", 1 << 40)):
        tensor = graph.signature_def[name].inputs["x"]
        tensor.dtype = 1
        for size in (-1, side, 512):
            tensor.tensor_shape.dim.add(size=size)
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert "and a shared public endpoint takes 1,500,000" in run(inspect, tmp_path).stdout
    with pytest.raises(UsageError, match="more than any endpoint lets through"):
        run(inspect, tmp_path, "--signature", "huge")


def test_whole_numbers_go_by_raw_predict(tmp_path):
    from cpr_kit.savedmodel import messages

    saved = messages.new("SavedModel")
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    tensor = graph.signature_def["serving_default"].inputs["input_ids"]
    tensor.dtype = 3  # DT_INT32
    for size in (-1, 2):
        tensor.tensor_shape.dim.add(size=size)
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    text = run(inspect, tmp_path).stdout
    assert '{"instances": [{"input_ids": [0, 0]}]}' in text or '{"instances": [[0, 0]]}' in text
    assert '"input_ids" takes whole numbers; Endpoint.predict makes doubles of them: ask by rawPredict' in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            [MODELS / "penguins", "--signature", "predct"],
            'it has "predict", "serving_default" (is "predict" meant?)',
        ),
        ([MODELS / "penguins", "--json", "--body", "-"], "--body - prints the body alone"),
        ([MODELS / "penguins", "--signature", ""], 'the model has no signature ""'),
        ([MODELS / "none"], "does not exist"),
        (["gs://box/model"], "gcloud storage cp -r gs://box/model"),
        ([MODELS / "image", "--body", "/proc/none/x"], "/proc/none/x cannot be written"),
    ],
)
def test_what_is_refused(arguments, reason):
    with pytest.raises(UsageError) as caught:
        run(inspect, *arguments)
    assert reason in str(caught.value)


def test_other_models_by_their_names(tmp_path):
    (tmp_path / "model.joblib").write_bytes(b"x")
    (tmp_path / "model.mar").write_bytes(b"xy")
    text = run(inspect, tmp_path).stdout
    assert f"{tmp_path / 'model.joblib'}  a scikit-learn or XGBoost model, pickled, 1 bytes" in text
    assert "prebuilt   sklearn-cpu.1-6, sklearn-cpu.1-5, sklearn-cpu.1-4, xgboost-cpu.2-1, xgboost-cpu.2-0" in text
    assert "predictor  none of this kit; write your own" in text
    value = json.loads(run(inspect, tmp_path, "--json").stdout)
    assert [each["file"] for each in value["models"]] == ["model.joblib", "model.mar"]
    with pytest.raises(UsageError, match=r"are for a SavedModel, and .* holds model\.joblib"):
        run(inspect, tmp_path, "--signature", "x")


def test_a_model_under_another_name_or_a_folder_deeper_is_pointed_at(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/iris 2.joblib").write_bytes(b"x")
    for path in (tmp_path / "own", tmp_path / "own/iris 2.joblib"):
        with pytest.raises(UsageError, match=r"iris 2\.joblib has a name .*; a \.joblib model must be model\.joblib"):
            run(inspect, path)
    (tmp_path / "project/model").mkdir(parents=True)
    (tmp_path / "project/model/model.skops").write_bytes(b"x")
    with pytest.raises(UsageError, match='holds no model itself, and "model" in it does; name that folder'):
        run(inspect, tmp_path / "project")


def test_the_names_are_those_that_the_predictors_read():
    for module, name in [
        (sklearn, "SklearnPredictor"), (xgboost, "XgboostPredictor"), (onnx, "OnnxPredictor"),
        (lightgbm, "LightgbmPredictor"), (catboost, "CatboostPredictor"),
    ]:  # fmt: skip
        files = {kind.name for kind in models.KINDS if name in kind.predictors}
        assert files == set(getattr(module, name).files), name


def test_an_onnx_graph_shows_its_inputs(tmp_path):
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["X"], ["Y"])], "g",
        [value("X", TensorProto.FLOAT, ["rows", 3])], [value("Y", TensorProto.FLOAT, ["rows", 3])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert "  takes      X  float  any x 3\n" in run(inspect, tmp_path / "model.onnx").stdout
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UsageError, match="cannot be loaded as an ONNX graph"):
        run(inspect, tmp_path)


@pytest.fixture
def penguins(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(PREDICT["instances"][0]) + "\n")
    return Path(shutil.copytree(MODELS / "penguins", tmp_path / "penguins"))


def test_a_warm_up_file_and_batching_parameters(penguins):
    rows = penguins.parent / "rows.jsonl"
    arguments = [
        penguins,
        rows,
        "--batch-sizes",
        "8,1,32",
        "--signature",
        "predict",
        "--batching",
        "--timeout-micros",
        5000,
    ]
    text = run(warmup, *arguments).stdout
    file = penguins / "1/assets.extra/tf_serving_warmup_requests"
    config = penguins / "config/batching_parameters_config"
    assert text == f'{file}  3 records for "predict", batches of 1, 8, 32\n{config}\n'
    assert config.read_text().splitlines() == [
        "max_batch_size { value: 32 }", "batch_timeout_micros { value: 5000 }",
        "allowed_batch_sizes: 1", "allowed_batch_sizes: 8", "allowed_batch_sizes: 32",
    ]  # fmt: skip
    assert "warm-up    has a file of requests" in run(inspect, penguins).stdout
    value = json.loads(run(warmup, penguins, rows, "--signature", "predict", "--json").stdout)
    assert value == {
        "file": str(file), "records": 1, "signature": "predict", "batch_sizes": [], "batching_parameters": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--batching", "--signature", "predict"], "--batching allows the batch sizes of --batch-sizes"),
        (["--timeout-micros", 1], "add --batching"),
        (["--batch-sizes", "1"], 'instance 0 lacks "examples"; it has "body_mass_g"'),
    ],
)
def test_a_warm_up_that_is_refused_writes_nothing(penguins, more, reason):
    with pytest.raises(UsageError) as caught:
        run(warmup, penguins, penguins.parent / "rows.jsonl", *more)
    assert reason in str(caught.value)
    assert sorted(path.name for path in penguins.iterdir()) == ["1"]


def test_a_model_may_be_named_by_its_own_file(penguins):
    file = penguins / "1/saved_model.pb"
    more = ["--signature", "predict", "--batch-sizes", "1", "--batching"]
    assert str(penguins / "1/config/batching_parameters_config") in run(
        warmup, file, penguins.parent / "rows.jsonl", *more
    ).stdout  # fmt: skip


def test_sizes_that_are_none(penguins):
    result = run(warmup, penguins, penguins.parent / "rows.jsonl", "--batch-sizes", "1,0")
    assert (result.exit_code, '"1,0" is no list of batch sizes; write them as 1,8,32' in result.stderr) == (2, True)
