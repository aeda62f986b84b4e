"""Predictors that end, stop, block, leak or share, named for how."""

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np

from cpr_kit import Predictor


class Serves(Predictor):
    """Answers what it is asked for; the first instance names it."""

    def load(self, artifacts_uri):
        count("loads")

    def predict(self, request):
        how, *arguments = request["instances"]
        return {"predictions": [getattr(self, how)(*arguments)]}

    def pid(self):
        return os.getpid()

    def sleep(self, seconds):
        time.sleep(seconds)
        return os.getpid()

    def exit(self, code):
        os._exit(code)

    def crash(self):
        ctypes.string_at(0)

    def loop(self):
        while True:
            pass

    def hold_the_lock(self):
        ctypes.PyDLL(None).sleep(1000)  # a PyDLL keeps Python's lock

    def leak(self, megabytes, seconds):
        LEAKED.append(np.ones(megabytes << 17))
        time.sleep(seconds)
        return os.getpid()


LEAKED = []


def count(what):
    """One line a call, in a file that all processes have."""
    if "COUNTS" in os.environ:
        with Path(os.environ["COUNTS"], what).open("a") as file:
            file.write(f"{os.getpid()}\n")


class Unshared(Serves):
    fork_safe = False


class LoadsSlowly(Serves):
    def load(self, artifacts_uri):
        super().load(artifacts_uri)
        time.sleep(float(os.environ.get("SECONDS", "1")))


class LoadsSlowlyUnshared(LoadsSlowly):
    fork_safe = False


class HoldsTheLockAsItLoads(Serves):
    def load(self, artifacts_uri):
        ctypes.PyDLL(None).sleep(3)


class LoadsSlowlyTheSecondTime(Serves):
    fork_safe = False

    def load(self, artifacts_uri):
        super().load(artifacts_uri)
        first = Path(os.environ["COUNTS"], "loads").read_text().split()[0] == str(os.getpid())
        time.sleep(0.6 if first else 4)


class StartsAThread(Serves):
    def load(self, artifacts_uri):
        super().load(artifacts_uri)
        threading.Thread(target=threading.Event().wait, daemon=True).start()


class StartsANativeThread(Serves):
    def load(self, artifacts_uri):
        super().load(artifacts_uri)
        libc = ctypes.CDLL(None)
        libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, ctypes.cast(libc.pause, ctypes.c_void_p), None)


class WantsALoop(Serves):
    def load(self, artifacts_uri):
        import asyncio

        asyncio.get_running_loop()
        super().load(artifacts_uri)


class LoadsOnce(Serves):
    """The first load works, and no other."""

    fork_safe = False

    def load(self, artifacts_uri):
        super().load(artifacts_uri)
        if len(Path(os.environ["COUNTS"], "loads").read_text().splitlines()) > int(os.environ.get("GOOD", "1")):
            raise ValueError("the bucket is gone")


class DiesAsItLoads(Serves):
    fork_safe = False

    def load(self, artifacts_uri):
        os.kill(os.getpid(), signal.SIGKILL)


class KeepsAThread(Serves):
    """Not a daemon: Python would wait for it at its end."""

    fork_safe = False

    def load(self, artifacts_uri):
        threading.Thread(target=time.sleep, args=(1000,)).start()


class RegistersItsEnd(Serves):
    fork_safe = False

    def load(self, artifacts_uri):
        import atexit

        atexit.register(count, "ends")


class HoldsManyNumbers(Serves):
    def load(self, artifacts_uri):
        self.numbers = np.ones(int(os.environ["MEGABYTES"]) << 17)

    def pid(self):
        assert self.numbers.sum()
        return os.getpid()
