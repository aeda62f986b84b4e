"""A program that runs `up` under a short lease, and stops itself (SIGSTOP) once a version is uploaded."""

import multiprocessing
import os
import signal

from dep_world import PATIENCE

from cpr_kit.deploy import apply, lease
from cpr_kit.deploy.vertex.calls import Caller
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.engine.choose import choose


class Paused:
    """It is stopped once the block begins; `goes_on` lets it run to its end, and gives what it failed with."""

    def __init__(self, target, environ, lasts_s):
        context = multiprocessing.get_context("spawn")  # a child of this very process, which can wait for its stop
        self._said, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_up, args=(theirs, target, environ, lasts_s))

    @property
    def pid(self):
        return self._process.pid

    def __enter__(self):
        self._process.start()
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it ended before it had uploaded"
        return self

    def goes_on(self):
        os.kill(self.pid, signal.SIGCONT)
        said = self._said.recv()
        self._process.join()
        return said

    def __exit__(self, *_):
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._said.close()


def _up(said, target, environ, lasts_s):
    os.environ.update(environ)
    lease._LASTS_S = lasts_s
    call = Caller.__call__

    def paused(self, what, *args, **fields):
        answer = call(self, what, *args, **fields)
        if what == f"look at: upload a version of {target.model}" and answer.done:
            os.kill(os.getpid(), signal.SIGSTOP)
        return answer

    Caller.__call__ = paused
    lines = []
    try:
        apply.up(
            target,
            choose("process").engine,
            Vertex(target.project, target.region, patience=PATIENCE),
            report=lines.append,
        )
        said.send(("", "", lines))
    except Exception as error:
        said.send((type(error).__name__, str(error), lines))
