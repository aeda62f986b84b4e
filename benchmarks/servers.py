"""How each server is installed and started. One worker each; the settings are those its own documents give.

Every server runs in an environment of its own and serves the same `work.py` or the same model file.
"""

import json
import os
from pathlib import Path
from typing import Any

import processes
from environments import HERE, Environment
from running import APPS, MODELS, Launch, Place, Server

ROOT = HERE.parent
SAME = ("scikit-learn==1.9.1", "joblib==1.6.0")


def vertex(place: Place, artifacts: Path, predictor: str) -> dict[str, str]:
    module, _, name = predictor.partition(":")
    return {
        "AIP_HTTP_PORT": str(place.port), "AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict",
        "AIP_STORAGE_URI": str(artifacts), "VERTEX_CPR_WEB_CONCURRENCY": "1",
        "HANDLER_CLASS": "PredictionHandler", "PREDICTOR_MODULE": module, "PREDICTOR_CLASS": name,
    }  # fmt: skip


def cpr_kit(python: Path, place: Place) -> Launch:
    job = place.job
    shipped = job.model in MODELS
    folder = place.model / "onnx" if job.onnx else place.model if shipped else place.folder
    environ = vertex(place, folder, f"cpr_kit_app:{job.predictor or ('Shipped' if shipped else 'Author')}")
    environ |= {"HANDLER_MODULE": "cpr_kit.runtime.handler", "CPR_SERVE_HOST": "127.0.0.1", "CPR_MODEL_TRUSTED": "true"}
    # This checkout, whichever one the environment was made from.
    environ["PYTHONPATH"] = f"{APPS}{os.pathsep}{ROOT}"
    if job.deadline:
        environ["CPR_SERVE_REQUEST_TIMEOUT"] = str(job.deadline)
    return Launch(command=[python, "-m", "cpr_kit.runtime"], environ=environ)


def google(python: Path, place: Place) -> Launch:
    folder = place.model if place.job.model in MODELS else place.folder
    environ = vertex(place, folder, "google_app:Author")
    environ["HANDLER_MODULE"] = "google.cloud.aiplatform.prediction.handler"
    return Launch(command=[python, "-m", "google.cloud.aiplatform.prediction.model_server"], environ=environ)


def litserve(python: Path, _: Place) -> Launch:
    return Launch(command=[python, APPS / "litserve_app.py"], environ={"BENCH_BATCH": "64", "BENCH_DELAY_S": "0.001"})


def bentoml(python: Path, place: Place) -> Launch:
    command = [python, "-m", "bentoml", "serve", "bentoml_app:Bench", "--working-dir", APPS]
    environ = {"BENCH_BATCH": "64", "BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(place.folder / "home")}
    return Launch(command=[*command, "--host", "127.0.0.1", "--port", str(place.port)], environ=environ)


def kserve(python: Path, _: Place) -> Launch:
    # Its web framework warns at each request that a response class of KServe's is out of date.
    return Launch(command=[python, APPS / "kserve_app.py"], environ={"PYTHONWARNINGS": "ignore"})


def mlserver(python: Path, place: Place) -> Launch:
    settings: dict[str, Any] = {
        "host": "127.0.0.1", "http_port": place.port, "grpc_port": processes.free_port(), "metrics_endpoint": None,
        "debug": False, "parallel_workers": 0,
    }  # fmt: skip
    model: dict[str, Any] = {"name": "bench", "implementation": "mlserver_app.Bench"}
    if place.job.model in MODELS:
        model["implementation"] = "mlserver_sklearn.SKLearnModel"
        model["parameters"] = {"uri": str(place.model / "model.joblib")}
        model |= {"max_batch_size": 64, "max_batch_time": 0.001}
    (place.folder / "settings.json").write_text(json.dumps(settings))
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    return Launch(command=[python.with_name("mlserver"), "start", "."])


def bare(python: Path, _: Place) -> Launch:
    return Launch(command=[python, APPS / "bare_app.py"])


KIT = Environment(
    name="cpr_kit",
    packages=("--editable", ".[sklearn]", *SAME, "onnxruntime", "skl2onnx"),
    shown=("uvicorn", "gunicorn", "starlette", "pysimdjson", "scikit-learn", "numpy", "onnxruntime"),
)
SERVERS = {
    server.name: server
    for server in (
        Server(name="cpr_kit", environment=KIT, start=cpr_kit, note="as `cpr serve` starts it"),
        Server(
            name="google",
            environment=Environment(
                name="google",
                packages=("google-cloud-aiplatform[prediction]==2.7.0", *SAME),
                shown=("google-cloud-aiplatform", "fastapi", "uvicorn"),
            ),
            start=google,
            note="its own server with the author's class of its documents; its access log has no switch",
        ),
        Server(name="bare", environment=KIT, start=bare, note="an ASGI application that answers {}"),
        Server(
            name="LitServe",
            environment=Environment(
                name="litserve",
                packages=("litserve==0.2.19", "uvloop", "httptools", *SAME),
                shown=("litserve", "fastapi", "uvicorn"),
            ),
            start=litserve,
            note="max_batch_size 64, batch_timeout 1 ms, fast_queue, one API process",
        ),
        Server(
            name="BentoML",
            environment=Environment(
                name="bentoml", packages=("bentoml==1.4.40", *SAME), shown=("bentoml", "starlette", "uvicorn")
            ),
            start=bentoml,
            health="/readyz",
            note="batchable, max_batch_size 64; access log and metrics off",
        ),
        Server(
            name="KServe",
            environment=Environment(
                name="kserve", packages=("kserve==0.21.0", *SAME), shown=("kserve", "fastapi", "uvicorn")
            ),
            start=kserve,
            path="/v1/models/bench:predict",
            health="/v2/health/ready",
            note="protocol V1; gRPC, access and latency logs off; no batching: its batcher is a Go process beside it",
        ),
        Server(
            name="MLServer",
            environment=Environment(
                name="mlserver",
                packages=("mlserver==1.7.1", "mlserver-sklearn==1.7.1", *SAME),
                shown=("mlserver", "fastapi", "uvicorn"),
            ),
            start=mlserver,
            path="/v2/models/bench/infer",
            health="/v2/models/bench/ready",
            body="body.v2.json",
            note="protocol V2; max_batch_size 64, max_batch_time 1 ms; in process (parallel_workers 0); debug off",
        ),
    )
}
