"""The messages without the SDK's own __init__: few modules, and a program that imports the SDK later sees nothing of it."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_only_the_served_services_messages_are_imported() -> None:
    out = run(
        "import sys\n"
        "from cpr_kit.emulator.messages import Model, PredictRequest\n"
        "import cpr_kit.emulator.app\n"
        "prefix = 'google.cloud.aiplatform'\n"
        "print(Model.DESCRIPTOR.full_name, PredictRequest.DESCRIPTOR.full_name)\n"
        "print([name for name in sys.modules if name.startswith(prefix)], 'numpy' in sys.modules)\n"
    )
    assert out == "google.cloud.aiplatform.v1.Model google.cloud.aiplatform.v1.PredictRequest\n[] False"


def test_a_message_that_is_none_is_an_import_error() -> None:
    out = run(
        "try:\n"
        "    from cpr_kit.emulator.messages import Nonsense\n"
        "except ImportError as error:\n"
        "    print(error.name)\n"
    )
    assert out == "cpr_kit.emulator.messages"


@pytest.mark.parametrize("first", ["emulator", "sdk"])
def test_the_sdk_is_whole_whichever_is_imported_first(first: str) -> None:
    imports = {
        "emulator": "from cpr_kit.emulator import catalogue, messages\ncatalogue.load()\n",
        "sdk": "from google.cloud import aiplatform, aiplatform_v1\n",
    }
    ordered = [imports[first], *(text for name, text in imports.items() if name != first)]
    out = run(
        "".join(ordered)
        + "import google.cloud.aiplatform_v1.types.endpoint as endpoint\n"
        + "assert aiplatform_v1.types.model.Model is aiplatform_v1.Model is aiplatform_v1.types.Model\n"
        + "assert aiplatform_v1.types.endpoint is endpoint and endpoint.Endpoint is aiplatform_v1.Endpoint\n"
        + "assert aiplatform_v1.types.pipeline_job.PipelineJob is aiplatform_v1.PipelineJob\n"
        + "assert aiplatform_v1.Endpoint.pb() is messages.Endpoint\n"
        + "assert aiplatform_v1.services.model_service.ModelServiceClient is aiplatform_v1.ModelServiceClient\n"
        + "print(len(catalogue.load().methods) > 50)\n"
    )
    assert out == "True"
