"""Run a command to its end and hand on its lines. Builders and installers are started here."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpr_kit.engine.protocol import Output
from cpr_kit.engine.reaper import guarded


def stream(command: Sequence[str], output: Output, *, env: Mapping[str, str], cwd: Path | None = None) -> int:
    """Standard output and error line by line to `output`, in order; the exit code.

    The command has a session of its own: it ends with this call whatever `output` raises, Ctrl-C too.
    """
    with subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=dict(env),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        with guarded(process):
            for raw in process.stdout:
                output(raw.decode("utf-8", "replace").rstrip("\r\n"))
            return process.wait()
