"""What a person sees: results on standard output, everything on the way there on standard error."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from cpr_kit.engine.progress import Steps
from cpr_kit.errors import CprError, kind

_LINE = 100
_INTERRUPTED = 130


def note(text: str) -> None:
    """A line about the way, not the result."""
    click.secho(text, err=True, dim=True)


def result(value: dict[str, Any], text: str, *, as_json: bool) -> None:
    """The result, for a program or for a person."""
    click.echo(json.dumps(value) if as_json else text)


def fail(error: CprError, *, as_json: bool) -> int:
    """Show an error; the exit code that belongs to it."""
    if as_json:
        click.echo(json.dumps({"error": {"type": kind(error), "message": str(error)}}))
    else:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
    return error.exit_code


@contextlib.contextmanager
def ending(text: str) -> Iterator[None]:
    """SIGTERM ends what runs as Ctrl-C does, so that it cleans up behind itself; then a line says so."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        if sys.stderr.isatty():  # the terminal's own ^C
            click.echo("\r\x1b[K", err=True, nl=False)
        note(text)
        # Not as an interrupt: click would write an empty line after the last word.
        raise SystemExit(_INTERRUPTED) from None
    except SystemExit:
        note(text)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class BuildDisplay:
    """Takes a build's lines: one line that moves on a terminal, one line a step in a log, none for a cached step.

    With `verbose`, every line as it comes.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._steps = Steps()
        self._shown: set[str] = set()
        self._began = time.monotonic()
        self._moving = sys.stderr.isatty()

    def __call__(self, line: str) -> None:
        before = self._steps.current
        step = self._steps.feed(line)
        if self._verbose or step is None or line.startswith("warning: "):
            self._print(line)
        elif step is before and str(step) not in self._shown and step.number and (step.tail or " DONE " in line):
            # When it has said something or is DONE: its first line does not tell whether it comes from the cache.
            self._shown.add(str(step))
            self._print(str(step)[:_LINE], moving=self._moving)

    def _print(self, text: str, *, moving: bool = False) -> None:
        if not moving:
            note(text)
            return
        text = f"{text}  {time.monotonic() - self._began:.0f} s"
        width = shutil.get_terminal_size().columns - 1
        click.echo("\r\x1b[K" + text[:width], err=True, nl=False)

    def close(self) -> None:
        if self._moving:
            click.echo("\r\x1b[K", err=True, nl=False)


@contextlib.contextmanager
def build_display(*, verbose: bool = False) -> Iterator[BuildDisplay]:
    display = BuildDisplay(verbose=verbose)
    try:
        yield display
    finally:
        display.close()
