"""`cpr predict`: one request to a folder, an image, a URL or an endpoint, the same for each."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from cpr_kit.cli import options

if TYPE_CHECKING:
    from cpr_kit.cli import endpoint

_OF_THE_CONTAINER = (500, 502, 503, 504)
_OF_A_CONTAINER = ("artifacts", "env", "predict_route", "health_route", "container_port")


@click.command("predict")
@options.target
@click.option("--json", "json_file", type=click.File("rb"), metavar="FILE|-", help="A JSON body; - is standard input.")
@click.option("--raw", "raw_file", type=click.File("rb"), metavar="FILE|-", help="Any body, sent as it is.")
@click.option("-H", "--header", multiple=True, metavar="'NAME: VALUE'", help="A header; may be repeated.")
@click.option("--endpoint", "asked", is_flag=True, help="Ask the endpoint of TARGET's cpr.toml at Vertex AI.")
@click.option("--region", metavar="REGION", help="TARGET is an endpoint there, or a folder whose endpoint is.")
@click.option("--project", metavar="PROJECT", help="Of an endpoint; default: cpr.toml's, or GOOGLE_CLOUD_PROJECT.")
@click.option("--override", metavar="ADDRESS", help="Of an endpoint with Private Service Connect in your network.")
@options.artifacts
@options.engine
@options.env
@options.routes
@options.verbose
def command(
    target: str,
    json_file: IO[bytes] | None,
    raw_file: IO[bytes] | None,
    header: tuple[str, ...],
    asked: bool,
    region: str | None,
    project: str | None,
    override: str | None,
    **values: object,
) -> None:
    """Send one request to TARGET, print the answer.

    TARGET is a folder (it is built and started), an image (it is started), a URL, or an endpoint of Vertex AI;
    default: this folder. JSON with "instances" goes to an endpoint's predict, all else to its rawPredict. Where an
    endpoint is named, --project and --region are those of cpr.toml in this folder unless they are given.

    \b
    Example:
      cpr predict iris --json iris/requests/two_rows.json
      cpr predict http://127.0.0.1:8080 --raw rows.csv -H 'Content-Type: text/csv'
      cpr predict iris --endpoint --json iris/requests/two_rows.json
      cpr predict my-endpoint --region us-central1 --project my-project --json two_rows.json
      cpr predict projects/my-project/locations/us-central1/endpoints/123 --json two_rows.json
    """
    from cpr_kit.cli import endpoint
    from cpr_kit.errors import UsageError
    from cpr_kit.harness import client

    if (json_file is None) == (raw_file is None):
        raise UsageError("give one body: --json FILE or --raw FILE, or - for standard input")
    file = json_file or raw_file
    assert file is not None
    body, headers = file.read(), _headers(header)
    if json_file is None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = client.content_type_of(Path(file.name))
    place = endpoint.Options(asked=asked, region=region, project=project, override=override)
    if endpoint.is_meant(target, place):
        _ask_endpoint(target, place, body, headers, values, raw=json_file is None)
    else:
        _ask_server(target, body, headers, values)


def _ask_server(target: str, body: bytes, headers: dict[str, str], values: dict[str, Any]) -> None:
    from cpr_kit.cli.target import Options, opened
    from cpr_kit.errors import PredictionError
    from cpr_kit.harness import client
    from cpr_kit.harness.prediction import error_message

    with opened(target, Options(**values)) as (server, _):
        response = client.send(server.base_url + server.predict_route, body, headers, server.timeout_s)
    _print(response.content)
    if not response.ok:
        raise PredictionError(response.status_code, error_message(response))


def _ask_endpoint(
    target: str, place: endpoint.Options, body: bytes, headers: dict[str, str], values: dict[str, Any], *, raw: bool
) -> None:
    from cpr_kit.cli import endpoint
    from cpr_kit.cli.terminal import note
    from cpr_kit.errors import PredictionError, UsageError

    if given := [f"--{name.replace('_', '-')}" for name in _OF_A_CONTAINER if values.get(name)]:
        raise UsageError(f"{' and '.join(given)} are for what is started here, and {target} is asked at Vertex AI")
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "application/json")
    with endpoint.opened(target, place) as asker:
        answer = asker.predict(body, kind, headers=headers, raw=True if raw else None)
    if not answer.status:
        answer.check()
    _print(answer.body)
    if answer.status in _OF_THE_CONTAINER:
        raise PredictionError(answer.status, f"{answer.message} | {_log(target, place.region)}")
    answer.check()
    who = f"deployed model {answer.deployed_model}" if answer.deployed_model else asker.endpoint.display_name
    note(f"{who} answered in {answer.seconds * 1000:.0f} ms")


def _log(target: str, region: str | None) -> str:
    """Where the reason is, of an error that the container or its start made."""
    if not Path(target).is_dir():
        return "its containers' log says why: cpr logs --severity ERROR, in the folder of its project"
    words = ["cpr logs", *([shlex.quote(target)] if target != "." else []), *([f"--region {region}"] if region else [])]
    return f"the log of its containers says why: {' '.join(words)} --severity ERROR"


def _print(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.write(b"" if content.endswith(b"\n") else b"\n")
    sys.stdout.flush()


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    from cpr_kit.errors import UsageError

    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"\"{line}\" is no header; write -H 'Name: value'")
        headers[name.strip()] = value.strip()
    return headers
