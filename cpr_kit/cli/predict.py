"""`cpr predict`: one request to a folder, an image or a URL, the same for each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

import click

from cpr_kit.cli import options


@click.command("predict")
@options.target
@click.option("--json", "json_file", type=click.File("rb"), metavar="FILE|-", help="A JSON body; - is standard input.")
@click.option("--raw", "raw_file", type=click.File("rb"), metavar="FILE|-", help="Any body, sent as it is.")
@click.option("-H", "--header", multiple=True, metavar="'NAME: VALUE'", help="A header; may be repeated.")
@options.artifacts
@options.engine
@options.env
@options.routes
@options.verbose
def command(
    target: str, json_file: IO[bytes] | None, raw_file: IO[bytes] | None, header: tuple[str, ...], **values: object
) -> None:
    """Send one request to TARGET, print the answer.

    TARGET is a folder (it is built and started), an image (it is started) or a URL; default: this folder.

    \b
    Example:
      cpr predict iris --json iris/requests/two_rows.json
      cpr predict http://127.0.0.1:8080 --raw rows.csv -H 'Content-Type: text/csv'
    """
    from cpr_kit.cli.target import Options, opened
    from cpr_kit.errors import PredictionError, UsageError
    from cpr_kit.harness import client
    from cpr_kit.harness.prediction import error_message

    if (json_file is None) == (raw_file is None):
        raise UsageError("give one body: --json FILE or --raw FILE, or - for standard input")
    file = json_file or raw_file
    assert file is not None
    body, headers = file.read(), _headers(header)
    if json_file is None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = client.content_type_of(Path(file.name))
    with opened(target, Options(**values)) as (server, _):  # type: ignore[arg-type]
        response = client.send(server.base_url + server.predict_route, body, headers, server.timeout_s)
    sys.stdout.buffer.write(response.content)
    sys.stdout.buffer.write(b"" if response.content.endswith(b"\n") else b"\n")
    sys.stdout.flush()
    if not response.ok:
        raise PredictionError(response.status_code, error_message(response))


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    from cpr_kit.errors import UsageError

    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"\"{line}\" is no header; write -H 'Name: value'")
        headers[name.strip()] = value.strip()
    return headers
