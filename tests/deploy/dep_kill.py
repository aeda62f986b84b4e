"""A program that runs `up` and is killed with SIGKILL right after its n-th remote call was answered."""

import multiprocessing
import os
import signal

from dep_world import PATIENCE

from cpr_kit.deploy import apply
from cpr_kit.deploy.vertex.calls import Caller
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.engine.choose import choose


def run(after, target, environ, **options):
    """The exit code: -9 where it was killed, 0 where `up` ended before that many calls."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["google.cloud.aiplatform_v1", "dep_kill"])
    child = context.Process(target=_up, args=(after, target, environ, options))
    child.start()
    child.join()
    return child.exitcode


def _up(after, target, environ, options):
    os.environ.update(environ)
    answered = 0
    call = Caller.__call__

    def counted(self, *args, **fields):
        nonlocal answered
        answer = call(self, *args, **fields)
        answered += 1
        if answered == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    Caller.__call__ = counted
    apply.up(target, choose("process").engine, Vertex(target.project, target.region, patience=PATIENCE), **options)
