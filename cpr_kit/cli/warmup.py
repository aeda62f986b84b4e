"""`cpr warmup`: the requests that TensorFlow Serving answers before it calls itself ready."""

from __future__ import annotations

from pathlib import Path

import click

from cpr_kit.cli import options, terminal


class _Sizes(click.ParamType[tuple[int, ...]]):
    name = "sizes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            self.fail(f'"{value}" is no list of batch sizes; write them as 1,8,32', param, ctx)
        return tuple(int(part) for part in parts)


@click.command("warmup")
@click.argument("model_dir", metavar="MODEL_DIR")
@click.argument("requests", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="REQUESTS")
@click.option("--batch-sizes", type=_Sizes(), default=None, metavar="N,N,...", help="One request for each of these.")
@click.option("--signature", default="serving_default", show_default=True, metavar="NAME", help="What is called.")
@click.option("--batching", is_flag=True, help="Write batching parameters too, so that only these sizes occur.")
@click.option("--timeout-micros", type=int, default=None, metavar="N", help="With --batching: how long a batch waits.")
@options.json_flag
def command(
    model_dir: str,
    requests: Path,
    batch_sizes: tuple[int, ...] | None,
    signature: str,
    batching: bool,
    timeout_micros: int | None,
    as_json: bool,
) -> None:
    """Write a warm-up file into the SavedModel in MODEL_DIR.

    REQUESTS holds JSON lines: each an instance, or a whole body. Each batch size gets as many
    instances, taken again from the first where there are too few. The file is
    assets.extra/tf_serving_warmup_requests of the version that a server would load; with --batching,
    config/batching_parameters_config is written into MODEL_DIR.

    \b
    Example:
      cpr warmup model requests.jsonl --batch-sizes 1,8,32
    """
    from cpr_kit.errors import UsageError
    from cpr_kit.savedmodel import batching as parameters
    from cpr_kit.savedmodel import warmup

    if timeout_micros is not None and not batching:
        raise UsageError("--timeout-micros is one of the batching parameters; add --batching")
    if batching and not batch_sizes:
        raise UsageError("--batching allows the batch sizes of --batch-sizes; name them")
    sizes = tuple(sorted(set(batch_sizes or ())))
    config = parameters.parameters(sizes[-1], sizes, timeout_micros=timeout_micros or 0) if batching else None
    path = warmup.write(model_dir, warmup.read_requests(requests), sizes, signature)
    written = [path]
    if config is not None:
        folder = Path(model_dir)
        # The reader takes the model's own file as well.
        written.append(_write((folder.parent if folder.is_file() else folder) / parameters.FILE, config))
    records = warmup.count(path)
    which = f", batches of {', '.join(map(str, sizes))}" if sizes else ""
    text = f'{path}  {records} record{"s" * (records != 1)} for "{signature}"{which}'
    value = {"file": str(path), "records": records, "signature": signature, "batch_sizes": list(sizes)}
    value |= {"batching_parameters": str(written[-1]) if batching else None}
    terminal.result(value, "\n".join([text, *(str(each) for each in written[1:])]), as_json=as_json)


def _write(path: Path, content: str) -> Path:
    from cpr_kit.errors import UsageError

    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    return path
