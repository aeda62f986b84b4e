"""`cpr serve`: the model server in this Python, without a container."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpr_kit.cli import options, terminal

if TYPE_CHECKING:
    from cpr_kit.contract import Launch


@click.command("serve")
@options.folder
@options.artifacts
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, metavar="N", help="Port to listen on; default: the first of cpr.toml, or 8080.")
@click.option("--reload", is_flag=True, help="Start again whenever a file of DIR changes.")
@options.env
@options.json_flag
def command(
    folder: Path, artifacts: str | None, host: str, port: int | None, reload: bool, env: tuple[str, ...], as_json: bool
) -> None:
    """Serve the project in DIR without a container.

    This Python runs it, with the same server and the same variables as its container.

    \b
    Example:
      cpr serve iris --reload
    """
    launch = _launch(folder.resolve(), artifacts, port, env)
    facts = {"url": f"http://{host}:{launch.port}", "predict": launch.predict_route, "health": launch.health_route}
    terminal.result(facts, f"serving: POST {facts['url']}{launch.predict_route}    stop: Ctrl-C", as_json=as_json)
    environment = {**launch.env, "CPR_SERVE_HOST": host}
    code = _reloaded(folder.resolve(), environment) if reload else _served(folder.resolve(), environment)
    click.get_current_context().exit(code)


def _launch(folder: Path, artifacts: str | None, port: int | None, env: tuple[str, ...]) -> Launch:
    from cpr_kit import serving_spec as spec
    from cpr_kit.build import template
    from cpr_kit.build.source import Source
    from cpr_kit.config import Config
    from cpr_kit.contract import LOG_FORMAT, Deployment, launch, parse_environment
    from cpr_kit.errors import UsageError

    config = Config.read(folder)
    if spec.has_own_server(config):
        raise UsageError(f"the server of {folder} is in its image alone; start it with: cpr run {folder}")
    source = Source.read(config)
    for warning in source.warnings:
        terminal.note(f"warning: {warning}")
    said = {**template.environment(source), **config.image.env, **parse_environment(env)}
    start = dataclasses.replace(spec.of(config, folder.name), env={LOG_FORMAT: "text", **said})
    uri = artifacts or config.artifact_uri or ""
    if uri and "://" not in uri:
        uri = str(Path(uri).resolve())
    return launch(start, Deployment(storage_uri=uri), port=port)


def _start(folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    import os

    command = [sys.executable, "-m", "cpr_kit.runtime"]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, start_new_session=True)


def _served(folder: Path, environment: Mapping[str, str]) -> int:
    from cpr_kit.engine.reaper import guarded

    process = _start(folder, environment)
    with guarded(process):
        return process.wait()


def _reloaded(folder: Path, environment: Mapping[str, str]) -> int:
    """A new server for each change. One that cannot start stays down until the next change."""
    from cpr_kit.engine.reaper import guarded

    changes = _changes(folder)
    while True:
        with guarded(_start(folder, environment)):
            changed = next(changes)
        terminal.note(f"{changed} changed: starting again")


def _changes(folder: Path) -> Iterator[str]:
    """One name for each batch of changed files, bytecode apart."""
    try:
        import watchfiles
    except ImportError as error:
        from cpr_kit.errors import MissingExtra

        raise MissingExtra("watchfiles", "local") from error
    for batch in watchfiles.watch(folder, raise_interrupt=True):
        yield str(Path(min(path for _, path in batch)).relative_to(folder))
