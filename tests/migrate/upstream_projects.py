"""Projects as people have them who wrote for google-cloud-aiplatform: scripts, notebooks, code, trained files."""

import json
import textwrap
from pathlib import Path

PREDICTOR = """
    from google.cloud.aiplatform.prediction.sklearn.predictor import SklearnPredictor

    class CprPredictor(SklearnPredictor):
        def postprocess(self, prediction_results):
            return {"predictions": [str(each) for each in prediction_results]}
"""
HANDLER = """
    from google.cloud.aiplatform.prediction.handler import PredictionHandler

    class CprHandler(PredictionHandler):
        async def handle(self, request):
            return None
"""
ROWS = '{"instances": [[6.7, 3.1, 4.7, 1.5], [4.6, 3.1, 1.5, 0.2]]}'


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def notebook(*cells: str) -> str:
    """A notebook with these cells of code, and one of text before each."""
    kinds = [("markdown", "# What follows"), *(("code", textwrap.dedent(cell).lstrip("\n")) for cell in cells)]
    made = [{"cell_type": kind, "source": text.splitlines(keepends=True)} for kind, text in kinds]
    return json.dumps({"cells": made, "nbformat": 4})
