"""Whether workers may share one loaded model, and the load that they then share.

A forked process has its parent's memory and one of its threads. A library that started threads of its own, or a
device's context, waits in the child for what is not there. So a model is shared when its class says
`fork_safe = True`, never when it says False, and otherwise when nothing below speaks against it:

| library | why each worker loads its own |
|---|---|
| torch, tensorflow, jax, paddle, mxnet | pools of threads, and the context of a GPU |
| onnxruntime | a session has threads of its own |
| xgboost, lightgbm, catboost | OpenMP: after a parallel loop in the parent, the first one in a child never ends |
| cupy, pycuda, numba.cuda | the context of a GPU |
| pyspark, ray, grpc | connections and their threads |

Any other library that leaves a thread running is noticed by the thread. OpenBLAS, numpy's and scipy's, is let
through: it ends its threads before a fork and starts them again after it. So is jemalloc's.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpr_kit.errors import StartError
from cpr_kit.runtime.importer import load_class
from cpr_kit.runtime.model import make_handler
from cpr_kit.runtime.settings import Settings

_NEVER_SHARED = {
    **dict.fromkeys(("torch", "tensorflow", "jax", "paddle", "mxnet"), "has pools of threads and a GPU's context"),
    "onnxruntime": "has sessions with threads of their own",
    **dict.fromkeys(("xgboost", "lightgbm", "catboost"), "runs OpenMP, which does not survive a fork"),
    **dict.fromkeys(("cupy", "pycuda", "numba.cuda"), "has a GPU's context"),
    **dict.fromkeys(("pyspark", "ray", "grpc"), "has connections with threads of their own"),
}
# jemalloc, Arrow's allocator, starts its thread again in the child.
_SURVIVE_A_FORK = frozenset({"jemalloc_bg_thd"})
_SETTLE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Either a handler to share, or the reason why there is none. `spoilt`: this process must not fork any more."""

    handler: Any = None
    reason: str = ""
    spoilt: bool = False


def load(settings: Settings) -> Outcome:
    """Import the author's classes, decide, and load where that helps. Raises StartError, as each worker would."""
    found: list[Outcome | BaseException] = []

    def work() -> None:
        try:
            found.append(_load(settings))
        except BaseException as error:  # noqa: BLE001  raised again below
            found.append(error)

    # In a thread, as a worker would: what the author's code does only there, it does here; and this one answers
    # signals meanwhile. The thread has ended before anything is forked.
    thread = threading.Thread(target=work, name="model", daemon=True)
    thread.start()
    while thread.is_alive():
        # A signal that comes between Python's last look for one and the wait would be handled after the whole load.
        thread.join(1.0)
    outcome = found[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _load(settings: Settings) -> Outcome:
    says = _says(settings)
    if says is False:
        return Outcome(reason="its class says fork_safe = False")
    if says is None and (reason := _library(sys.modules)):
        return Outcome(reason=reason)
    try:
        handler = make_handler(settings)
    except StartError as error:
        if _wants_a_loop(error.__cause__):
            return Outcome(reason="it needs a running event loop to load", spoilt=True)
        raise
    reason = "" if says else _library(sys.modules) or _threads()
    return Outcome(handler=None if reason else handler, reason=reason, spoilt=bool(reason))


def _says(settings: Settings) -> bool | None:
    classes = [load_class(reference) for reference in (settings.predictor, settings.handler) if reference]
    said = [getattr(one, "fork_safe", None) for one in classes]
    return False if False in said else True if True in said else None


def _library(modules: Mapping[str, Any]) -> str:
    return next((f"{name} is imported, which {why}" for name, why in _NEVER_SHARED.items() if name in modules), "")


def _wants_a_loop(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and "event loop" in str(error)


def _threads() -> str:
    """Threads that the load left behind, of Python or of a native library; those that are ending get a moment."""
    deadline = time.monotonic() + _SETTLE_S
    while (reason := _threads_now()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return reason


def _threads_now() -> str:
    here = threading.current_thread()
    names = [t.name for t in threading.enumerate() if t not in (here, threading.main_thread())]
    if names:
        return f"its load started threads that are still there: {', '.join(sorted(names))}"
    expected = 2 + _openblas()  # the main thread and this one
    native = [name for name in _native() if name not in _SURVIVE_A_FORK]
    return "its load started native threads" if len(native) > expected else ""


def _openblas() -> int:
    """Threads that OpenBLAS has started: each copy, and numpy and scipy have one each, starts them as it is loaded."""
    try:
        maps = Path("/proc/self/maps").read_text(errors="replace")
    except OSError:
        return 0
    files = {Path(line.split()[-1]).name for line in maps.splitlines() if line.endswith((".so", ".so.0"))}
    copies = sum("openblas" in name for name in files)
    named = (os.environ.get(f"{kind}_NUM_THREADS", "") for kind in ("OPENBLAS", "GOTO", "OMP"))
    cores = len(os.sched_getaffinity(0))
    most = next((int(text) for text in named if text.isdecimal() and int(text)), cores)
    return copies * (min(most, cores) - 1)


def _native() -> list[str]:
    """The name of each thread that the kernel knows in this process; a native library's is mostly the program's."""
    names = []
    for file in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            names.append(file.read_text(errors="replace").strip())
    return names
