"""`cpr compare`: the same requests to two models; how far their answers are apart, and how fast each is."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpr_kit.cli import options, terminal
from cpr_kit.errors import UsageError

if TYPE_CHECKING:
    from cpr_kit.compare.comparison import Comparison
    from cpr_kit.compare.targets import Side
    from cpr_kit.deploy.predict.asking import Asker

_PERCENT = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?%", re.ASCII)
_OFF = "off"
_NAME = re.compile(r"[^:/]+")
"""An endpoint's id or display name; an image's has a tag or a registry, where --region is given."""
_ALL = 100


def _flips(_context: click.Context, _option: click.Parameter, text: str) -> float | None:
    if text == _OFF:
        return None
    match = _PERCENT.fullmatch(text.strip())
    if match is None or float(match[1]) > _ALL:
        raise UsageError(f'--flips is "{text}"; it is a share of the rows such as 0.5%, or "off"')
    return float(match[1]) / _ALL


def _rates(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[float, ...]:
    if not text:
        return ()
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        raise UsageError(f'--rates is "{text}"; it is requests a second with commas between, such as 5,20') from None


def _of_one_side(function: Callable[..., Any]) -> Callable[..., Any]:
    for side in ("b", "a"):
        for option in (
            click.option(f"--artifacts-{side}", metavar="PATH|gs://", help=f"The model's files of {side.upper()}."),
            click.option(f"--env-{side}", multiple=True, metavar="NAME=VALUE", help=f"A variable of {side.upper()}."),
            click.option(f"--override-{side}", metavar="ADDRESS", help="Of an endpoint with Private Service Connect."),
            click.option(
                f"--endpoint-{side}", is_flag=True, help=f"{side.upper()} is the endpoint of its folder's cpr.toml."
            ),
        ):
            function = option(function)
    return function


@click.command("compare")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--requests",
    "file",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE|DIR",
    help="What both are asked: .jsonl (a body or an instance a line), .json, .csv, or a folder of bodies.",
)
@click.option("--rows", type=int, default=1, show_default=True, metavar="N", help="Instances of a file in one request.")
@click.option("--tolerance", type=float, default=1e-2, show_default=True, help="The largest difference allowed.")
@click.option("--mean-tolerance", type=float, default=1e-3, show_default=True, help="The mean difference allowed.")
@click.option("--relative", is_flag=True, help="Both tolerances are shares of the larger value.")
@click.option(
    "--flips", default="0.5%", show_default=True, callback=_flips, help="Rows with another class; off for values."
)
@click.option("--rates", callback=_rates, metavar="N,N", help="Measure latency at so many requests a second.")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="How long, for each side and rate.")
@click.option("--warm-up", type=int, default=20, show_default=True, help="Requests before the first rate, not timed.")
@click.option("--worst", type=int, default=5, show_default=True, help="How many rows are named.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.svg", help="Draw it too.")
@click.option("--format", "form", type=click.Choice(["text", "markdown"]), default="text", show_default=True)
@click.option("--region", metavar="REGION", help="Where A or B is an endpoint by its id or name.")
@click.option("--project", metavar="PROJECT", help="Of an endpoint; default: cpr.toml's, or GOOGLE_CLOUD_PROJECT.")
@options.artifacts
@options.env
@_of_one_side
@options.routes
@options.engine
@options.verbose
@options.json_flag
def command(a: str, b: str, file: Path, form: str, picture: Path | None, as_json: bool, **values: Any) -> None:
    """Ask A and B the same, and say whether they agree.

    Each is a folder (it is built and started), an image (it is started), a URL, or an endpoint of Vertex AI of
    any kind: its full resource name, or its id or name with --region. Options without -a or -b are for both.
    Exit code 1 when they do not agree within what is allowed.

    \b
    Example:
      cpr compare iris iris-int8 --requests rows.jsonl
      cpr compare iris iris --endpoint-b --requests rows.jsonl
      cpr compare bert:plain bert:plain --env-b BERT_PRECISION=int8 --requests rows.jsonl --rates 5,20
      cpr compare http://127.0.0.1:8080 projects/p/locations/us-central1/endpoints/1 --requests rows.jsonl
    """
    from cpr_kit.compare import api, render
    from cpr_kit.compare import picture as drawing
    from cpr_kit.compare import requests as reading

    if picture is not None:
        drawing.check(picture)
    if values["worst"] < 0:
        raise UsageError(f"--worst is {values['worst']}; it is 0 or more")
    limits = api.Limits(**{name: values[name] for name in ("tolerance", "mean_tolerance", "flips", "relative")})
    effort = api.Effort(**{name: values[name] for name in ("rates", "seconds", "warm_up")})
    limits.check()
    effort.check()
    requests = reading.read(file, rows=values["rows"])
    with terminal.ending("stopped; what was started is removed"):
        sides = [_side(name, letter, values) for name, letter in ((a, "a"), (b, "b"))]
        found = api.run(
            sides[0], sides[1], requests, limits=limits, effort=effort, worst=values["worst"], progress=terminal.note
        )
    if picture is not None:
        drawing.write(found, picture)
        terminal.note(f"{picture} written")
    shown = render.markdown(found) if form == "markdown" else _coloured(found)
    terminal.result(found.facts(), shown, as_json=as_json)
    click.get_current_context().exit(0 if found.passed else 1)


def _coloured(found: Comparison) -> str:
    from cpr_kit.compare import render

    head = render.verdict(found)[0]
    before, _, after = render.text(found).rpartition(head)
    return before + click.style(head, fg="green" if found.passed else "red") + after


def _side(name: str, letter: str, values: dict[str, Any]) -> Side:
    """A folder is built and an endpoint is looked up when both sides have been read: nothing of the two runs yet."""
    from cpr_kit.cli import endpoint
    from cpr_kit.cli.target import Options, at_url, is_url, startable
    from cpr_kit.compare import targets

    of_endpoint, override = values[f"endpoint_{letter}"], values[f"override_{letter}"]
    if _is_endpoint(name, of_endpoint, override, values["region"]):
        _refuse_started(name, letter, values)
        # A full resource name has its own, and the options may be there for the other side.
        given = {} if name.startswith("projects/") else {key: values[key] for key in ("region", "project")}
        place = endpoint.Options(asked=of_endpoint, override=override, **given)
        where = endpoint.place(name, place)
        told = f"projects/{where.project}/locations/{where.region}/endpoints/{where.name}"
        return targets.endpoint(told, lambda: _asker(name, place))
    chosen = Options(
        engine=values["engine"],
        artifacts=values[f"artifacts_{letter}"] or values["artifacts"],
        env=(*values["env"], *values[f"env_{letter}"]),
        verbose=values["verbose"],
        **{key: values[key] for key in ("predict_route", "health_route", "container_port")},
    )
    if is_url(name):
        _refuse_started(name, letter, values)
        return targets.server(name, at_url(name, chosen))
    return targets.container(name, startable(name, chosen).endpoint)


@contextlib.contextmanager
def _asker(name: str, place: Any) -> Iterator[Asker]:
    from cpr_kit.cli import endpoint

    with endpoint.opened(name, place) as asker:
        yield asker


def _is_endpoint(name: str, of_endpoint: bool, override: str | None, region: str | None) -> bool:
    """--region alone does not make an endpoint of a folder or an image: it may be there for the other side."""
    from cpr_kit.cli import endpoint

    if endpoint.is_meant(name, endpoint.Options(asked=of_endpoint, override=override)):
        return True
    return bool(region and not Path(name).is_dir() and _NAME.fullmatch(name))


def _refuse_started(name: str, letter: str, values: dict[str, Any]) -> None:
    given = [f"--{key}-{letter}" for key in ("env", "artifacts") if values[f"{key}_{letter}"]]
    if given:
        verb = "is" if len(given) == 1 else "are"
        raise UsageError(f"{' and '.join(given)} {verb} for what is started here, and {name} runs already")
