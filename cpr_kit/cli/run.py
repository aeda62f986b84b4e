"""`cpr run`: the container, as Vertex AI would start and watch it."""

from __future__ import annotations

import json

import click

from cpr_kit.cli import options, terminal


@click.command("run")
@options.target
@click.option("--port", type=int, metavar="N", help="Port on 127.0.0.1; default: a free one.")
@options.artifacts
@options.engine
@options.env
@options.routes
@options.verbose
@options.json_flag
def command(target: str, as_json: bool, **values: object) -> None:
    """Run TARGET as Vertex AI would, until Ctrl-C.

    TARGET is a folder or an image. It gets all AIP_* variables, is probed as Vertex AI probes it,
    and a line says when Vertex AI would take
    its traffic away or restart it. Nothing is left behind.

    \b
    Example:
      cpr run iris --port 8080
    """
    from cpr_kit.cli.target import Options, is_url, startable
    from cpr_kit.errors import ContainerError, UsageError
    from cpr_kit.harness.monitor import HealthMonitor

    if is_url(target):
        raise UsageError(f"{target} runs already; cpr run takes a folder or an image")
    start = startable(target, Options(**values))  # type: ignore[arg-type]
    with start.endpoint() as endpoint:
        _announce(
            endpoint.url, endpoint.serving_container_predict_route, endpoint.serving_container_health_route, as_json
        )
        container = endpoint.container
        assert container is not None
        with HealthMonitor(container, start.spec, endpoint.launch, report=terminal.note):
            _follow(container)
        code = container.exit_code()
    raise ContainerError(f"the container ended by itself with exit code {code}; on Vertex AI it may never return")


def _announce(url: str, predict: str, health: str, as_json: bool) -> None:
    facts = {"url": url, "predict": url + predict, "health": url + health}
    text = f"serving: POST {facts['predict']}\n  health: GET {facts['health']}\n    stop: Ctrl-C"
    click.echo(json.dumps(facts) if as_json else text)


def _follow(container: object) -> None:
    """The log, over restarts too, until the container ends by itself."""
    for line in container.follow():  # type: ignore[attr-defined]
        click.echo(line, err=True)
