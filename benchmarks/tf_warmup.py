"""A9.3: the first requests to a model that XLA compiles, with a warm-up file and without, against the steady ones.

    python benchmarks/tf_warmup.py

Needs a container engine; builds containers/tf_serving where it is not here yet. Both containers serve the same model
with --allow_precompilation; the file has a request of 4 rows and one of 8, and these are what is asked for.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import requests

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.engine.docker import DockerEngine

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "containers"))
import tf_world

SIZES = (4, 8)
FIRST, STEADY = 20, 1000


def main() -> int:
    tf_world.build()
    with tempfile.TemporaryDirectory(prefix="cpr-bench-") as folder:
        models = tf_world.make_models(Path(folder))
        found = {name: measured(models / name) for name in ("cold", "warm")}
    print("| warm-up file | p99 of the first 20 | steady p99 | ratio |\n|---|---|---|---|")
    for name, (first, steady) in found.items():
        print(
            f"| {'with' if name == 'warm' else 'without'} | {first:.1f} ms | {steady:.1f} ms | {first / steady:.1f} |"
        )
    ratios = {name: first / steady for name, (first, steady) in found.items()}
    return 0 if ratios["warm"] < 3 < ratios["cold"] else 1


def measured(model: Path) -> tuple[float, float]:
    arguments = ["--allow_precompilation=true"]
    local = LocalModel.tf_serving(model, "dense", image=tf_world.IMAGE, args=arguments, engine=DockerEngine())
    with local.deploy_to_local_endpoint() as endpoint, requests.Session() as session:
        url = endpoint.url + endpoint.serving_container_predict_route
        times = [asked(session, url, SIZES[number % len(SIZES)]) for number in range(FIRST + STEADY)]
    first, steady = (float(np.percentile(each, 99)) for each in (times[:FIRST], times[FIRST:]))
    return first, steady


def asked(session: requests.Session, url: str, rows: int) -> float:
    """Milliseconds."""
    body = json.dumps({"instances": [[0.5] * 16] * rows})
    began = time.perf_counter()
    session.post(url, data=body, timeout=60).raise_for_status()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    sys.exit(main())
