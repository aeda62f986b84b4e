"""Presets of the TensorFlow images, against the tutorials' values."""

import pytest

from cpr_kit.contract import ContainerSpec
from cpr_kit.errors import ConfigError
from cpr_kit.prebuilt import optimized

RESTRICTED = "us-docker.pkg.dev/vertex-ai-restricted/prediction"


@pytest.mark.parametrize(
    ("name", "options", "spec"),
    [
        (
            "standard",
            {"version": "2-7"},
            ContainerSpec(image_uri="us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-7:latest"),
        ),
        (
            "lossy",
            {"version": "alpha"},
            ContainerSpec(
                image_uri=f"{RESTRICTED}/tensorflow-enterprise-inference-engine-alpha:latest",
                args=("--allow_precompilation=true", "--allow_precision_affecting_optimizations=true"),
            ),
        ),
        (
            "lossless",
            {"accelerator": "gpu", "model_name": "default"},
            ContainerSpec(
                image_uri=f"{RESTRICTED}/tf_opt-gpu.nightly:latest",
                args=("--model_name=default", "--allow_precompilation=true", "--allow_compression=false"),
                health_route="/v1/models/default",
                predict_route="/v1/models/default:predict",
            ),
        ),
        (
            "lossy",
            {"version": "2.17", "region": "europe-west4"},
            ContainerSpec(
                image_uri="europe-docker.pkg.dev/vertex-ai-restricted/prediction/tf_opt-cpu.2-17:latest",
                args=("--allow_precompilation=true", "--allow_compression=true"),
            ),
        ),
    ],
)
def test_a9_1_a_preset_is_exactly_the_tutorials_image_and_arguments(name, options, spec):
    chosen = optimized.preset(name, **options)
    assert chosen.spec == spec
    assert chosen.notes == ()


def test_a9_1_an_old_flag_becomes_the_new_one_with_a_note():
    old = ["--allow_precision_affecting_optimizations=true", "--use_tfrt=true"]
    args, notes = optimized.modern(old)
    assert args == ("--allow_compression=true", "--use_tfrt=true")
    assert notes == (
        "--allow_precision_affecting_optimizations is an old name; it was replaced by --allow_compression",
    )
    chosen = optimized.preset("lossy", args=old)
    assert chosen.spec.args == ("--allow_precompilation=true", "--allow_compression=true", *args)
    assert chosen.notes == notes


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: optimized.preset("losless"), "did you mean lossless?"),
        (lambda: optimized.preset("lossless", args=["--allow_compression=true"]), "leave one out"),
        (
            lambda: optimized.preset("lossless", args=["--allow_precision_affecting_optimizations=true"]),
            "--allow_compression=false, and the arguments say --allow_compression=true",
        ),
        (lambda: optimized.preset("standard", args=["--use_tfrt=true"]), "choose lossless or lossy"),
        (lambda: optimized.preset("lossy", version="2-18"), "tf_opt-cpu.2-17"),
    ],
)
def test_what_does_not_fit_a_preset_is_refused(ask, said):
    with pytest.raises(ConfigError) as error:
        ask()
    assert said in str(error.value)
