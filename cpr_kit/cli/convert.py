"""`cpr convert`: a scikit-learn model as ONNX, once it is shown that both answer the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpr_kit.cli import options, terminal

if TYPE_CHECKING:
    from cpr_kit.convert.agreement import Agreement
    from cpr_kit.convert.sklearn import Attempt, Report
    from cpr_kit.convert.speed import Speed

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("convert")
@click.argument("model", type=_FILE)
@click.option("--data", required=True, type=_FILE, metavar="ROWS", help="Rows to compare on: .csv, .npy or .json.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: model.onnx beside MODEL."
)
@click.option("--tolerance", type=float, default=1e-5, show_default=True, help="Largest difference that is none.")
@click.option("--accept", is_flag=True, help="Write the file whatever the differences.")
@click.option("--trusted", is_flag=True, help="Load a joblib or pickle file, which runs code as it loads.")
@options.json_flag
def command(model: Path, data: Path, output: Path | None, as_json: bool, accept: bool, **values: Any) -> None:
    """Convert a scikit-learn MODEL to ONNX, and prove it on your rows.

    MODEL is a skops, joblib or pickle file. Labels must be the same, probabilities within the
    tolerance, values within the tolerance of their size; else nothing is written, the worst rows
    are shown, and the exit code is 1.

    \b
    Example:
      cpr convert model/model.skops --data rows.csv
    """
    from cpr_kit.convert import rows, sklearn

    estimator = _loaded(model, trusted=values["trusted"])
    report = sklearn.convert(estimator, rows.read(data), tolerance=values["tolerance"])
    target = output or model.parent / "model.onnx"
    written = report.agrees or accept
    if written:
        target.write_bytes(report.graph)
    facts = {**report.facts(), "written": str(target) if written else None}
    terminal.result(facts, "\n".join([*_lines(report), _verdict(report, target, written=written)]), as_json=as_json)
    if written and (target.resolve().parent / "model.skops").exists():
        terminal.note(f"SklearnPredictor serves model.skops before {target.name}: move it away to serve the graph")
    click.get_current_context().exit(0 if written else 1)


def _loaded(path: Path, *, trusted: bool) -> Any:
    """As the server loads it, on one thread. Raises UsageError for a file that is not trusted."""
    from cpr_kit.errors import MissingExtra, StartError, UsageError
    from cpr_kit.runtime.frameworks import estimator
    from cpr_kit.runtime.frameworks.sklearn import read

    sys.path.insert(0, str(Path.cwd()))  # where the classes of a pickle may lie, as for `python -m`
    try:
        model = read(path, {"trusted": trusted})
        estimator.set_threads(model, 1)
    except StartError as error:
        raise UsageError(f"{error.cause}; if you made it, add --trusted") from error
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "scikit-learn", "convert,sklearn") from error
    except Exception as error:
        raise UsageError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    if not hasattr(model, "predict"):
        raise UsageError(f"{path} holds a {type(model).__name__}, which has no predict")
    return model


def _lines(report: Report) -> list[str]:
    found = report.agreement
    lines = [f"{report.model}, {found.rows} rows, {report.chosen.dtype} graph"]
    lines += [_told(attempt, report) for attempt in report.attempts]
    if not report.agrees:
        lines += _worst(found)
    return lines + [_speed(item) for item in report.speeds]


def _told(attempt: Attempt, report: Report) -> str:
    mark = "->" if attempt is report.chosen else "  "
    if attempt.agreement is None:
        return f"{mark} {attempt.dtype}: no graph: {attempt.reason}"
    found = attempt.agreement
    return (
        f"{mark} {attempt.dtype}: {found.flips} other labels, {found.beyond} rows beyond {report.tolerance:g}, "
        f"difference max {found.max_difference:.2g}, mean {found.mean_difference:.2g}"
    )


def _worst(found: Agreement) -> list[str]:
    rows = [
        f"   row {item.row}: {item.output} {item.sklearn} by scikit-learn, {item.onnx} by the graph"
        for item in found.worst
    ]
    return ["   worst rows, counted from 0:", *rows]


def _speed(item: Speed) -> str:
    rows = "one row" if item.rows == 1 else f"{item.rows} rows"
    return (
        f"   {rows}: {item.sklearn_us:.0f} us by scikit-learn, {item.onnx_us:.0f} us by the graph, "
        f"{item.ratio:.1f} times as fast (in one process, without a server)"
    )


def _verdict(report: Report, target: Path, *, written: bool) -> str:
    if report.agrees:
        return f"{target} written: it agrees on every row"
    if written:
        return f"{target} written, as --accept says, though it does not agree"
    return "nothing written: the graph does not agree; --accept writes it all the same"
