"""TensorFlow Serving and Triton: specifications against the tutorials' values, and what does not fit together."""

from dataclasses import replace

import pytest

from cpr_kit.contract import ContainerSpec
from cpr_kit.errors import SpecError
from cpr_kit.prebuilt import tf_serving, triton


def model(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "saved_model.pb").touch()
    return folder


def test_a7_1_the_specification_is_exactly_the_tutorials():
    assert tf_serving.spec("example_20210101") == ContainerSpec(
        image_uri="tensorflow/serving:2.5.4",
        command=("/usr/bin/tensorflow_model_server",),
        args=(
            "--model_name=example_20210101",
            "--model_base_path=$(AIP_STORAGE_URI)",
            "--rest_api_port=8080",
            "--port=8500",
            "--file_system_poll_wait_seconds=31540000",
        ),
        ports=(8080,),
        health_route="/v1/models/example_20210101",
        predict_route="/v1/models/example_20210101:predict",
    )


def test_what_is_derived_cannot_be_said_twice():
    assert tf_serving.spec("m", args=["--enable_batching=true"]).args[-1] == "--enable_batching=true"
    with pytest.raises(SpecError, match="leave it out of args"):
        tf_serving.spec("m", args=["--model_name=n"])
    with pytest.raises(SpecError, match="port 8500"):
        tf_serving.spec("m", port=8500)
    with pytest.raises(SpecError, match="my model"):
        tf_serving.spec("my model")


@pytest.mark.parametrize("named", ["m", "m/1", "m/3/", "m/../m"])
def test_the_folder_above_the_versions_is_found(tmp_path, named):
    model(tmp_path, "m/1", "m/3", "m/12")
    found = tf_serving.folder(str(tmp_path / named))
    assert (found.base, found.versions) == (str(tmp_path / "m"), ("12", "3", "1"))


@pytest.mark.parametrize(
    ("uri", "base", "versions"),
    [
        ("gs://b/model/1", "gs://b/model", ("1",)),
        ("gs://b/model/1/", "gs://b/model", ("1",)),
        ("gs://b/m", "gs://b/m", ()),
    ],
)
def test_the_folder_above_the_versions_of_a_uri(uri, base, versions):
    found = tf_serving.folder(uri)
    assert (found.base, found.versions) == (base, versions)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["."], "has saved_model.pb itself"),
        (["export"], "has the model in export"),
        ([], "has no version of a model, such as 1/saved_model.pb; it has nothing"),
    ],
)
def test_a7_3_a_missing_version_folder_is_named(tmp_path, folders, said):
    model(tmp_path, *folders)
    with pytest.raises(SpecError) as error:
        tf_serving.folder(str(tmp_path))
    assert said in str(error.value)


def test_a7_3_the_highest_version_is_what_counts(tmp_path):
    model(tmp_path, "1")
    (tmp_path / "2").mkdir()
    with pytest.raises(SpecError, match=r"has the version 2, and no saved_model\.pb in it"):
        tf_serving.folder(str(tmp_path))


@pytest.fixture
def spec():
    return tf_serving.spec("flowers")


def found(spec, artifacts="gs://b/model"):
    return "\n".join(tf_serving.faults(spec, artifacts))


def without(spec, flag):
    return replace(spec, args=tuple(each for each in spec.args if not each.startswith(f"{flag}=")))


def test_what_fits_together_has_no_fault(spec, tmp_path):
    assert found(spec) == ""
    assert found(spec, str(model(tmp_path, "1"))) == ""
    assert found(replace(spec, predict_route="/v1/models/flowers/versions/2:predict")) == ""
    own_start = ContainerSpec(
        image_uri="tensorflow/serving:2.5.4",
        ports=(8501,),
        env={"MODEL_NAME": "m"},
        health_route="/v1/models/m",
        predict_route="/v1/models/m:predict",
    )
    assert found(own_start) == ""
    assert found(ContainerSpec(image_uri="iris:1", args=("--model_name=a",))) == ""
    configured = (tf_serving.COMMAND, "--model_config_file=/models.config", "--rest_api_port=8080")
    assert found(ContainerSpec(image_uri="i", command=configured, predict_route="/v1/models/a:predict")) == ""


def test_a7_3_a_wrong_name_is_named(spec):
    assert "the predict route is /v1/models/flower:predict, and the model's name is flowers" in found(
        replace(spec, predict_route="/v1/models/flower:predict")
    )
    assert "the health route is /health, which TensorFlow Serving does not have" in found(
        replace(spec, health_route="/health")
    )
    assert "the predict route is /v1/models/flowers, which" in found(replace(spec, predict_route="/v1/models/flowers"))
    assert "the health route is missing" in found(replace(spec, health_route=None))
    assert "--model_name is missing" in found(without(spec, "--model_name"))


def test_a7_3_a_port_that_is_not_asked_is_named(spec):
    assert "--rest_api_port is 8080, and Vertex AI asks 8501" in found(replace(spec, ports=(8501,)))
    assert "--rest_api_port is missing; Vertex AI asks port 8080" in found(without(spec, "--rest_api_port"))
    same = replace(without(spec, "--port"), args=(*without(spec, "--port").args, "--port=8080"))
    assert "are both 8080" in found(same)
    assert "on port 8501, and Vertex AI asks 8080" in found(ContainerSpec(image_uri="tensorflow/serving"))


def test_a7_3_a_version_in_place_of_the_folder_above_is_named(spec, tmp_path):
    assert "the model's folder is gs://b/model/1, a version" in found(spec, "gs://b/model/1")
    model(tmp_path, "1")
    assert f"the folder above it: {tmp_path}" in found(spec, str(tmp_path / "1"))
    assert "there are no artifacts" in found(spec, None)
    wrong = replace(
        without(spec, "--model_base_path"),
        args=(*without(spec, "--model_base_path").args, "--model_base_path=$AIP_STORAGE_URI"),
    )
    assert "which nothing expands" in found(wrong)


def test_a_model_that_is_not_there_yet_is_told_where_to_go(spec, tmp_path):
    with pytest.raises(SpecError) as error:
        tf_serving.check(spec, str(tmp_path / "model"))
    there = tmp_path / "model"
    assert str(error.value) == (
        "TensorFlow Serving would not get healthy:\n"
        f"  {there}, where the model's versions are looked for, is not there; save the model as {there}/1/saved_model.pb"
    )


def test_all_faults_come_in_one_refusal(spec):
    with pytest.raises(SpecError) as error:
        tf_serving.check(replace(spec, ports=(8501,), health_route="/health"), "gs://b/model/1")
    assert str(error.value).count("\n  ") == 3
    assert "LocalModel.tf_serving(model_dir" in str(error.value)


def test_tritons_specification_is_exactly_the_samples():
    assert triton.spec("pytorch") == ContainerSpec(
        image_uri="nvcr.io/nvidia/tritonserver:21.08-py3",
        args=("tritonserver", "--model-repository=$(AIP_STORAGE_URI)"),
        ports=(8000,),
        predict_route="/v2/models/pytorch/infer",
        health_route="/v2/models/pytorch",
    )


def test_what_is_derived_for_triton_cannot_be_said_otherwise():
    assert triton.spec("a", args=["--strict-model-config=true"]).args[-1] == "--strict-model-config=true"
    assert triton.spec("a", among_others=True, args=["--vertex-ai-default-model=a"]) == triton.spec(
        "a", among_others=True
    )
    for make, each in (
        (triton.spec, "--vertex-ai-default-model=b"),
        (triton.redirecting, "--vertex-ai-default-model=a"),
        (triton.redirecting, "--strict-model-config=false"),
        (triton.spec, "--model-repository=/models"),
    ):
        with pytest.raises(SpecError, match=f"{each} is derived here"):
            make("a", args=[each])


def test_triton_with_a_default_model_leaves_routes_and_port_to_vertex_ai():
    backend = ["--backend-config=python,shm-default-byte-size=16777216"]
    assert triton.redirecting("ensemble", args=backend, shared_memory_mb=256) == ContainerSpec(
        image_uri="nvcr.io/nvidia/tritonserver:21.08-py3",
        args=(
            "tritonserver",
            "--model-repository=$(AIP_STORAGE_URI)",
            "--vertex-ai-default-model=ensemble",
            "--strict-model-config=true",
            *backend,
        ),
        shared_memory_size_mb=256,
    )


@pytest.mark.parametrize(
    ("folders", "named", "said"),
    [
        (["pytorch/1"], ".", None),
        (["other/1"], ".", 'has no model "pytorch"; it has other'),
        (["pytorch/1"], "pytorch", "so name the folder above it"),
        (["pytorch"], ".", "make pytorch/1"),
        ([], "none", "not there"),
    ],
)
def test_a_repository_without_the_model_is_named(tmp_path, folders, named, said):
    for each in folders:
        (tmp_path / each).mkdir(parents=True)
    if said is None:
        triton.check_repository(str(tmp_path / named), "pytorch")
        return
    with pytest.raises(SpecError) as error:
        triton.check_repository(str(tmp_path / named), "pytorch")
    assert said in str(error.value)
