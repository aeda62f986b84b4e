"""A program that runs `up` and is killed with SIGKILL right after its n-th remote call that made a difference.

A call that only reads leaves what the call before it left, so that a kill after it would be the same kill again. The
exception is the look that sees an operation's end: before it the operation may still run, after it all is done.
"""

import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver

from dep_world import PATIENCE

from cpr_kit.deploy import apply
from cpr_kit.deploy.vertex.calls import Caller
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.engine.choose import choose


def run(after, target, environ, **options):
    """The exit code: -9 where it was killed, 0 where `up` ended before that many calls."""
    context = multiprocessing.get_context("forkserver")
    _served(context)
    child = context.Process(target=_up, args=(after, target, environ, options))
    child.start()
    child.join()
    return child.exitcode


LIBRARIES = (
    "google.cloud.aiplatform_v1", "google.cloud.storage", "google.auth.transport.requests", "google.api_core.retry",
    "requests",
)  # fmt: skip
READS = ("show ", "list ")
LOOKS = "look at: "


def _served(context):
    """The server that children are forked from has all that they import; it does not look where pytest does."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)
    try:
        context.set_forkserver_preload([*LIBRARIES, "dep_kill"])
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if path is not None:
            os.environ["PYTHONPATH"] = path


def _tells(what, answer):
    return answer.done if what.startswith(LOOKS) else not what.startswith(READS)


def _up(after, target, environ, options):
    os.environ.update(environ)
    answered = 0
    call = Caller.__call__

    def counted(self, what, *args, **fields):
        nonlocal answered
        answer = call(self, what, *args, **fields)
        answered += _tells(what, answer)
        if answered == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    Caller.__call__ = counted
    apply.up(target, choose("process").engine, Vertex(target.project, target.region, patience=PATIENCE), **options)
