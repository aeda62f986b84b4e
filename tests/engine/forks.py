"""Children of a server that has imported what programs of the tests import: a program is there in a moment."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

from cpr_kit.cli.main import main

# One list for all: the server is started once in a process's life, by whoever asks first. Names that cannot be imported
# from where that one stands are left out, and are imported by the child.
_LIBRARIES = (
    "google.cloud.aiplatform_v1", "google.cloud.storage", "google.auth.transport.requests", "google.api_core.retry",
    "requests", "docker", "cpr_kit.cli.emulate", "cpr_kit.emulator.app", "cpr_kit.emulator.parts", "dep_kill",
)  # fmt: skip


def context():
    """Of multiprocessing, with its server running; that one does not look where pytest does."""
    made = multiprocessing.get_context("forkserver")
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)
    try:
        made.set_forkserver_preload([*_LIBRARIES])
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if path is not None:
            os.environ["PYTHONPATH"] = path
    return made


def cpr(words, cwd, environ):
    """`cpr` with these words and nothing to read, as `subprocess.run` would give it back."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        child = context().Process(target=_cpr, args=(words, cwd, environ, out, err))
        child.start()
        child.join()
        return subprocess.CompletedProcess(["cpr", *words], child.exitcode, out.read_text(), err.read_text())


def _cpr(words, cwd, environ, out, err):
    become(words, environ)
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    main()


def become(words, environ):
    """In a child, before it calls `main`: the program of these words and of this environment alone."""
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["cpr", *words]
