"""What the commands share that work at Vertex AI: their options, a question before anything changes, and progress."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpr_kit.cli import options, terminal
from cpr_kit.errors import ConfigError, UsageError, kind

if TYPE_CHECKING:
    from typing_extensions import Self

    from cpr_kit.config import Config
    from cpr_kit.deploy.apply import Outcome
    from cpr_kit.deploy.many import Results

_PERCENT = re.compile(r"(\d{1,3}) ?%?", re.ASCII)
_WAITS = re.compile(r": \d+ s so far$", re.ASCII)
_TICK_S = 1.0

regions: options.Decorator[Any] = click.option(
    "--region",
    "regions",
    multiple=True,
    metavar="REGION",
    help="Only this one; may be repeated.  [default: all]",
)

yes: options.Decorator[Any] = click.option(
    "--yes", "-y", is_flag=True, envvar="CPR_YES", help="Do not ask; needed where there is no terminal."
)

take_lease: options.Decorator[Any] = click.option(
    "--take-lease", is_flag=True, help="Go on although another cpr is said to be at work on the endpoint."
)


def _percent(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    match = _PERCENT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f'--canary is "{text}"; it is a share of the traffic such as 10%, or 0 for all at once')
    return int(match[1])


canary: options.Decorator[Any] = click.option(
    "--canary",
    metavar="PERCENT",
    callback=_percent,
    help="What the new version gets until it is judged, such as 10%; default: canary of [deploy].",
)


def project(folder: Path, given: Sequence[str], *, files: bool = False) -> Config:
    """A project that is, or is to be, at Vertex AI; `given` are --region's. With `files`, its [[check]] files too.

    What cpr.toml says is checked whole before credentials are asked for, and these before anything else: without them
    whatever is asked first would be blamed. Raises ConfigError, LackingError.
    """
    from cpr_kit import check_files, serving_spec
    from cpr_kit.config import Config
    from cpr_kit.deploy.project import from_config
    from cpr_kit.deploy.vertex.calls import Caller

    config = Config.read(folder.resolve())
    name = complete(config, given)
    from_config.targets(config, serving_spec.of(config, name), regions=given, files=False)
    if files:
        check_files.check(config.folder, config.checks)
    _ = Caller().credentials
    return config


def complete(config: Config, given: Sequence[str]) -> str:
    """The image's name. All that a deployment cannot do without is asked for at once, with lines to copy."""
    from cpr_kit.config import FILE

    deploy, slug = config.deploy, _slug(config.folder.name)
    region = next(iter((*given, *deploy.regions)), "us-central1")
    least = (
        ("image", "name", config.image.name, f'"{region}-docker.pkg.dev/my-project/serving/{slug}:1"'),
        ("deploy", "project", deploy.project, '"my-project"'),
        ("deploy", "regions", given or deploy.regions, f'["{region}"]'),
        ("deploy", "endpoint", deploy.endpoint, f'"{slug}"'),
    )
    lacking = [(section, key, example) for section, key, value, example in least if not value]
    if config.image.name and not lacking:
        return config.image.name
    lines = []
    for section in dict.fromkeys(section for section, _, _ in lacking):
        lines += [f"[{section}]", *(f"{key} = {example}" for each, key, example in lacking if each == section)]
    path = config.folder / FILE
    there = path.exists()
    where = f"{path} lacks" if there else f"there is no {path}, and so no"
    names = ", ".join(f"[{section}] {key}" for section, key, _ in lacking)
    do = "write there" if there else "name the project's folder, or write there"
    raise ConfigError("\n    ".join([f"{where} {names}; {do}, with your own names:", *lines]))


def _slug(name: str) -> str:
    """A folder's name as an image and an endpoint may have it."""
    found = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return found if found[:1].isalpha() else "my-model"


def agreed(what: str, *, given: bool) -> None:
    """Ask on a terminal. Raises UsageError where there is none and --yes was not given, Abort for a no."""
    if given:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"there is no terminal to ask whether to {what}; say it with --yes")
    if not click.confirm(f"{what}?", default=False, err=True):
        terminal.note("nothing was done")
        raise click.exceptions.Exit(1)


class Progress:
    """Takes regions' lines. On a terminal a last line moves: what each waits for, and since when.

    In a log each line stands; what only says that a wait goes on comes every 30 s from where it is waited for.
    """

    def __init__(self, *, moving: bool | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._moving = sys.stderr.isatty() if moving is None else moving
        self._clock = clock
        self._doing: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __call__(self, region: str, line: str) -> None:
        with self._lock:
            is_wait = _WAITS.search(line) is not None
            if not is_wait or region not in self._doing:
                self._doing[region] = (_WAITS.sub("", line), self._clock())
            if self._moving:
                click.echo("\r\x1b[K", err=True, nl=False)
            if not (self._moving and is_wait):
                terminal.note(f"{region}: {line}")
            self._draw()

    def __enter__(self) -> Self:
        if self._moving:
            self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._moving:
            self._ticker.join()
            click.echo("\r\x1b[K", err=True, nl=False)

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_S):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        if self._moving and self._doing:
            width = shutil.get_terminal_size().columns - 1
            click.echo("\r\x1b[K" + self.line()[:width], err=True, nl=False)

    def line(self) -> str:
        """What moves."""
        now = self._clock()
        return "; ".join(f"{region}: {doing} {now - since:.0f} s" for region, (doing, since) in self._doing.items())


@contextlib.contextmanager
def working() -> Iterator[Progress]:
    """Around remote work: SIGTERM and Ctrl-C leave it so that the same command goes on."""
    with terminal.ending("stopped; the same command goes on where it stopped"), Progress() as progress:
        yield progress


def outcome(results: Results[Outcome], said: Callable[[Outcome], str], *, as_json: bool) -> None:
    """What came of each region; the exit code is that of the failures."""
    values: list[dict[str, Any]] = [
        {
            "region": region,
            "changed": one.changed,
            "version": one.version,
            "endpoint": one.endpoint,
            "lines": list(one.lines),
        }
        for region, one in results.done.items()
    ]
    values += [
        {"region": region, "error": {"type": kind(error), "message": str(error)}}
        for region, error in results.failed.items()
    ]
    lines = [f"{region}: {said(one)}" for region, one in results.done.items()]
    if lines or as_json:
        terminal.result({"passed": not results.failed, "regions": values}, "\n".join(lines), as_json=as_json)
    for region, error in results.failed.items():
        click.echo(f"{click.style('failed:', fg='red', bold=True)} {region}: {error}", err=True)
    if results.failed:
        from cpr_kit.deploy.many import RegionsFailed

        terminal.note("the same command again mends what failed, and leaves alone what is done")
        click.get_current_context().exit(RegionsFailed(results).exit_code)
