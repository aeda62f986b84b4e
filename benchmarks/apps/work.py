"""What every server of the benchmark computes: rows in, predictions out. Each app wraps `load` in its own framework.

BENCH_MODEL names the work, BENCH_FOLDER is the folder with model.joblib where the work is a model.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = Callable[[Any], list[Any]]

# What one request of the overload costs: 5 ms of this thread's CPU time, however the threads share the cores.
SERVICE_S = 0.005


def load() -> Work:
    name = os.environ["BENCH_MODEL"]
    known: dict[str, Work] = {
        "tiny": lambda rows: [0] * len(rows),
        "modules": lambda rows: [sorted(sys.modules)] * len(rows),
        "busy_python": lambda rows: [spin(SERVICE_S, time.thread_time) for _ in rows],
        "busy_numpy": lambda rows: [exponentials(SERVICE_S) for _ in rows],
        "slow": lambda rows: [SLOW[kind](seconds) for kind, seconds in rows],
    }
    return known.get(name) or model()


def model() -> Work:
    import joblib
    import numpy as np

    loaded = joblib.load(Path(os.environ["BENCH_FOLDER"], "model.joblib"))
    return lambda rows: loaded.predict(np.asarray(rows)).tolist()


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return 0


def spin(seconds: float, clock: Callable[[], float] = time.monotonic) -> int:
    """A pure Python loop: it holds the interpreter's lock until another thread asks for it."""
    end = clock() + seconds
    while clock() < end:
        pass
    return 0


def exponentials(seconds: float) -> int:
    """numpy in one thread, in pieces of half a millisecond; it lets go of the interpreter's lock, as most models do."""
    import numpy as np

    numbers = np.ones(100_000)
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        np.exp(numbers, out=numbers)
        numbers[:] = 1
    return 0


def products(seconds: float) -> int:
    """numpy in as many threads as there are cores, which leave little of them to anyone else."""
    import numpy as np

    matrix = np.ones((512, 512), np.float32)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        matrix @ matrix
    return 0


SLOW: dict[str, Callable[[float], int]] = {"sleep": sleep, "python": spin, "numpy": products}
