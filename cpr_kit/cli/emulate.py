"""`cpr emulate`: Vertex AI prediction on this machine, for a command, a shell, or until Ctrl-C."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpr_kit.cli import options, terminal
from cpr_kit.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Self

    from cpr_kit.emulator.app import Emulator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BY_SIGNAL = 128


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the emulator is to be; the same words again are `arguments`."""

    port: int
    state: Path | None
    allow_internet: bool
    fault: tuple[str, ...]
    setting: tuple[str, ...]
    project: str | None
    engine: str | None
    as_json: bool

    def arguments(self) -> list[str]:
        words: list[str] = []
        for name, value in (("port", self.port), ("state", self.state), ("project", self.project)):
            words += [f"--{name}", str(value)] if value else []
        words += ["--engine", self.engine] if self.engine else []
        words += [word for text in self.fault for word in ("--fault", text)]
        words += [word for text in self.setting for word in ("--set", text)]
        return words + ["--allow-internet"] * self.allow_internet + ["--json"] * self.as_json


class _Command(click.Command):
    """Under --env the shell evaluates what is printed: `false` tells it of a failure, which `eval` would not see."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        own = args[: args.index("--")] if "--" in args else args
        with _false_on_failure("--env" in own and "--json" not in own):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _false_on_failure(ctx.params["env"] and not ctx.params["as_json"]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _false_on_failure(for_a_shell: bool) -> Iterator[None]:
    try:
        yield
    except click.exceptions.Exit:  # --help
        raise
    except BaseException:
        if for_a_shell:
            click.echo("false")
        raise


def _is_given(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """In `--fault -- COMMAND` the value is missing; click would take "--" for it."""
    for given in value if isinstance(value, tuple) else (value,):
        if given is not None and Path(given).name == "--":
            raise click.BadOptionUsage(parameter.opts[0], f"Option '{parameter.opts[0]}' requires an argument.", ctx)
    return value


@click.command("emulate", cls=_Command, context_settings={"allow_interspersed_args": False})
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="On 127.0.0.1; default: a free one."
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path, resolve_path=True),
    metavar="FILE",
    callback=_is_given,
    help="Keep models, endpoints and objects here; default: in memory.",
)
@click.option("--allow-internet", is_flag=True, help="Pass calls to hosts on that are not Google Cloud's.")
@click.option(
    "--fault",
    multiple=True,
    metavar="TEXT",
    callback=_is_given,
    help='As "predict:status=503:share=10%"; may be repeated.',
)
@click.option(
    "--set",
    "setting",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_is_given,
    help="A behaviour; may be repeated.",
)
@click.option(
    "--project",
    metavar="ID",
    callback=_is_given,
    help="Of programs that name none.  [default: GOOGLE_CLOUD_PROJECT]",
)
@options.engine
@click.option("--env", is_flag=True, help="Print the variables for a shell; the emulator stays in the background.")
@click.option("--stop", is_flag=True, help="End the emulator of --env, and print what takes its variables away.")
@click.option("--ready-fd", type=int, hidden=True)
@click.option(
    "--json", "as_json", is_flag=True, help="Show each call as one JSON object a line; what is printed, as one object."
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def command(command: tuple[str, ...], env: bool, stop: bool, ready_fd: int | None, **values: Any) -> int:
    """Vertex AI prediction on this machine.

    COMMAND's own calls to Google Cloud come here, over gRPC and REST, with nothing in it changed; deployed models are
    real containers. It ends with COMMAND's exit code. Without COMMAND it serves until Ctrl-C.
    The calls are shown on standard error, with --json as one object a line.

    \b
    Example:
      cpr emulate -- python deploy.py
      eval "$(cpr emulate --env)" && python deploy.py; eval "$(cpr emulate --stop)"
      cpr emulate --fault "predict:status=503:count=2" -- pytest
    """
    wanted = Options(**values)
    if command and (env or stop):
        raise UsageError("--env and --stop are for a shell; they take no COMMAND")
    if stop:
        return _stop(as_json=wanted.as_json)
    if env:
        return _lines_for_a_shell(wanted)
    if command:
        _check(command[0])
    with _Signals() as signals:
        if ready_fd is not None:
            return _serve_behind(wanted, ready_fd, signals)
        with _emulator(wanted) as emulator:
            if command:
                return _run(command, emulator.environment, signals)
            _announce(emulator, as_json=wanted.as_json)
            signals.wait()
    return 0


def _check(program: str) -> None:
    """That it can be run, before anything starts."""
    if shutil.which(program):
        return
    if os.sep in program and Path(program).is_dir():
        raise UsageError(f'"{program}" is a folder, not a command to run under the emulator')
    found = shutil.which(program, mode=os.F_OK)
    if found:
        raise UsageError(
            f"{found} is not executable; run: chmod +x {shlex.quote(found)}, or name its program: python {found}"
        )
    raise UsageError(f'there is no command "{program}" to run under the emulator')


def _serve_behind(wanted: Options, ready: int, signals: _Signals) -> int:
    """In the process that --env leaves in the background."""
    from cpr_kit.cli.background import Background

    behind = Background.default()
    with (
        behind.holding(),
        _emulator(wanted) as emulator,
        behind.known(ready, emulator.environment, wanted.arguments()),
    ):
        signals.wait()
    return 0


@contextlib.contextmanager
def _emulator(wanted: Options) -> Iterator[Emulator]:
    from cpr_kit.emulator.program import libraries

    with libraries():
        from cpr_kit.emulator.app import Emulator
        from cpr_kit.emulator.console import Console

    console = Console(as_json=wanted.as_json)
    with Emulator(
        port=wanted.port,
        state=wanted.state,
        engine=wanted.engine,
        settings=_settings(wanted.setting),
        project=_project(wanted.project) or None,
        allow_internet=wanted.allow_internet,
        faults=wanted.fault,
        show=console.call,
        note=console.note,
    ) as emulator:
        yield emulator


def _project(chosen: str | None) -> str | None:
    """--project, else GOOGLE_CLOUD_PROJECT."""
    from cpr_kit.emulator.app import check_project

    variable = "GOOGLE_CLOUD_PROJECT"
    source, project = ("--project", chosen) if chosen is not None else (variable, os.environ.get(variable))
    if project:
        check_project(project, source)
    return project


def _settings(texts: Sequence[str]) -> Any:
    """`emulator/settings.py` with these values instead; each is of the type that stands there."""
    from cpr_kit.emulator.settings import Settings

    settings = Settings()
    known = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise UsageError(f'--set "{text}": it is NAME=VALUE, and NAME one of {", ".join(sorted(known))}')
        changes[name] = _value(text, type(known[name]), value)
    return dataclasses.replace(settings, **changes)


def _value(text: str, kind: type, value: str) -> Any:
    if kind is tuple:
        return tuple(filter(None, (each.strip() for each in value.split(","))))
    try:
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise UsageError(f'--set "{text}": the value must be {wanted}') from None


class _Signals:
    """What would end this program is passed on to the command, or ends the wait.

    The system may give a signal to any of the emulator's threads, which wakes no system call of this one, where Python
    runs the handlers. So this thread waits for nothing but the bytes that Python writes when a signal comes.
    """

    def __init__(self) -> None:
        self.came: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._woken, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        self._descriptor = signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._take) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._descriptor)
        self._woken.close()
        self._wakes.close()

    def wait(self) -> None:
        """Until one comes, or has come."""
        while self.came is None:
            self._woken.recv(1)

    def wait_for(self, process: subprocess.Popen[bytes]) -> int:
        """Its exit code; until then it gets them."""
        self._process = process
        if self.came is not None:
            process.send_signal(self.came)
        waiting = threading.Thread(target=self._tell_end, args=(process,))
        waiting.start()
        while process.returncode is None:
            self._woken.recv(1)
        waiting.join()
        return process.returncode

    def _tell_end(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        with contextlib.suppress(BlockingIOError):  # full: there is something to wake up for
            self._wakes.send(b"\0")

    def _take(self, number: int, _frame: object) -> None:
        self.came = number
        if self._process is not None and not (number == signal.SIGINT and _is_foreground()):
            self._process.send_signal(number)


def _is_foreground() -> bool:
    """Whether a Ctrl-C came from the terminal: then the command, in the same group, has got it already."""
    try:
        with Path("/dev/tty").open("rb") as tty:
            return os.tcgetpgrp(tty.fileno()) == os.getpgrp()
    except OSError:
        return False


def _run(command: tuple[str, ...], environment: dict[str, str], signals: _Signals) -> int:
    """The command's exit code, as a shell gives it: 128 and the number for one that a signal ended."""
    if signals.came is not None:
        return _BY_SIGNAL + signals.came
    try:
        process = subprocess.Popen(command, env={**os.environ, **environment})
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run: {error.strerror}") from error
    code = signals.wait_for(process)
    return code if code >= 0 else _BY_SIGNAL - code


def _announce(emulator: Emulator, *, as_json: bool) -> None:
    from cpr_kit.emulator.proxy.environment import shell_lines

    variables = emulator.environment
    file = Path(variables["SSL_CERT_FILE"]).with_name("environment.sh")
    file.write_text(shell_lines(variables))
    facts = {"url": emulator.url, "environment": variables}
    text = (
        f"Vertex AI prediction: {emulator.url}\n"
        f"  another shell: . {file}\n"
        f'         by hand: aiplatform.init(api_endpoint="{emulator.url}", api_transport="rest")\n'
        "            stop: Ctrl-C"
    )
    click.echo(json.dumps(facts) if as_json else text)


def _lines_for_a_shell(wanted: Options) -> int:
    from cpr_kit.cli.background import Background
    from cpr_kit.emulator.program import libraries

    with libraries():
        from cpr_kit.emulator.proxy.environment import shell_lines

    variables = Background.default().started(wanted.arguments())
    click.echo(json.dumps(variables) if wanted.as_json else shell_lines(variables), nl=wanted.as_json)
    return 0


def _stop(*, as_json: bool) -> int:
    """Also where none runs: the shell's variables are taken away all the same."""
    from cpr_kit.cli.background import Background
    from cpr_kit.emulator.program import libraries

    with libraries():
        from cpr_kit.emulator.proxy.environment import unset_lines

    stopped = Background.default().stop()
    terminal.note("the emulator has stopped" if stopped else "no emulator runs in the background")
    if as_json:
        click.echo(json.dumps({"stopped": stopped}))
    elif not os.isatty(1):
        click.echo(unset_lines(), nl=False)
    return 0
