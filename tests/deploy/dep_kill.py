"""A program that runs `up` and is killed with SIGKILL right after its n-th remote call that made a difference.

A call that only reads leaves what the call before it left, so that a kill after it would be the same kill again. The
exception is the look that sees an operation's end: before it the operation may still run, after it all is done.
"""

import os
import signal

from dep_world import PATIENCE
import forks  # of the engines' tests, where dep_world looks too

from cpr_kit.deploy import apply
from cpr_kit.deploy.vertex.calls import Caller
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.engine.choose import choose


def run(after, target, environ, **options):
    """The exit code: -9 where it was killed, 0 where `up` ended before that many calls."""
    child = forks.context().Process(target=_up, args=(after, target, environ, options))
    child.start()
    child.join()
    return child.exitcode


READS = ("show ", "list ")
LOOKS = "look at: "


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
