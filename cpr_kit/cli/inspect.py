"""`cpr inspect`: what a model folder holds, and a request that it takes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpr_kit.cli import options, terminal

if TYPE_CHECKING:
    from cpr_kit.savedmodel.reader import SavedModel
    from cpr_kit.savedmodel.signatures import Signature, Tensor

_LONGEST_BODY = 4000


@click.command("inspect")
@click.argument("model_dir", metavar="MODEL_DIR")
@click.option("--signature", metavar="NAME", help="The example is for this one.  [default: serving_default]")
@click.option("--body", "body_file", metavar="FILE|-", help="Write the example there; - prints nothing else.")
@options.json_flag
def command(model_dir: str, signature: str | None, body_file: str | None, as_json: bool) -> None:
    """Say what MODEL_DIR holds, and write a request that it takes.

    Of a SavedModel: its signatures, their inputs and outputs, and an example body that the model
    takes as it stands. Of other models: which image and which predictor serve them. Nothing of the
    model is run, and TensorFlow is not needed.

    \b
    Example:
      cpr inspect model
      cpr inspect model --signature predict --body body.json
      cpr predict http://127.0.0.1:8501 --predict-route /v1/models/m:predict --json body.json
    """
    from cpr_kit.cli import models
    from cpr_kit.errors import UsageError
    from cpr_kit.savedmodel import reader

    if body_file == "-" and as_json:
        raise UsageError("--body - prints the body alone; the object of --json has it too")
    found = models.found(Path(model_dir))
    if found and not reader.is_model(Path(model_dir)):
        if signature is not None or body_file is not None:
            raise UsageError(f"--signature and --body are for a SavedModel, and {model_dir} holds {found[0].name}")
        facts = models.facts(Path(model_dir), found)
        terminal.result({"path": model_dir, "models": facts}, models.text(Path(model_dir), facts), as_json=as_json)
        return
    if not reader.is_model(Path(model_dir)):
        _misnamed(Path(model_dir))
    _saved_model(reader.read(model_dir), signature, body_file, as_json=as_json)


def _misnamed(path: Path) -> None:
    """Raises ConfigError where a model is near, but under a name or in a folder that nothing serves it from."""
    from cpr_kit.cli import models
    from cpr_kit.errors import ConfigError
    from cpr_kit.savedmodel.signatures import listed, shown

    # A text or JSON file may be anything.
    wanted = {Path(kind.name).suffix: kind.name for kind in models.KINDS if not kind.name.endswith((".txt", ".json"))}
    inside = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    if below := [each.name for each in inside if each.is_dir() and models.found(each)]:
        raise ConfigError(f"{path} holds no model itself, and {listed(below)} in it does; name that folder")
    if other := next((each for each in inside if each.suffix in wanted and each.is_file()), None):
        name = wanted[other.suffix]
        raise ConfigError(
            f"{shown(str(other))} has a name that nothing looks for; a {other.suffix} model must be {name}"
        )


def _saved_model(model: SavedModel, asked: str | None, body_file: str | None, *, as_json: bool) -> None:
    from cpr_kit.errors import UsageError
    from cpr_kit.savedmodel import example, features
    from cpr_kit.savedmodel.signatures import DEFAULT, find

    facts = _facts(model)
    if not model.signatures:
        if asked is not None or body_file is not None:
            find(model.signatures, DEFAULT if asked is None else asked)
        terminal.result(facts, "\n".join(_head(model)), as_json=as_json)
        return
    usual = DEFAULT if DEFAULT in model.signatures else next(iter(model.signatures))
    name = usual if asked is None else asked
    signature = find(model.signatures, name)
    content: dict[str, Any] | None = None
    notes = []
    parsed = features.read(model) if signature.takes_examples else {}
    try:
        content = example.body(model.signatures, name, serialised=features.example(parsed) if parsed else None)
    except UsageError as error:
        if asked is not None or body_file is not None:
            raise
        notes.append(f"no example body: {error}")
    else:
        notes += _notes(signature, content, parsed)
    if content is not None and body_file is not None:
        _write(body_file, json.dumps(content))
    if body_file == "-":
        for line in notes:
            terminal.note(line)
        return
    lines = [*_head(model), *(line for each in model.signatures.values() for line in _lines(each))]
    lines += _example(name, content, notes, body_file)
    facts |= {"example": {"signature": name, "body": content, "notes": notes}}
    terminal.result(facts, "\n".join(lines), as_json=as_json)


def _write(file: str, text: str) -> None:
    from cpr_kit.errors import UsageError

    if file == "-":
        sys.stdout.write(text + "\n")
        return
    try:
        Path(file).write_text(text + "\n")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error


def _head(model: SavedModel) -> list[str]:
    from cpr_kit.cli import models
    from cpr_kit.savedmodel import reader
    from cpr_kit.savedmodel.signatures import shown

    made = f" of TensorFlow {shown(model.tensorflow_version)}" if model.tensorflow_version else ""
    lines = [f"{model.path}  SavedModel{made}"]
    if model.versions:
        other = f"; the versions are {', '.join(model.versions)}" if len(model.versions) > 1 else ""
        lines.append(f"  version    {model.path.absolute().name}{other}")
    if model.assets:
        lines.append(f"  assets     {', '.join(map(shown, model.assets))}")
    if model.has_warmup:
        lines.append("  warm-up    has a file of requests")
    lines.append(f"  prebuilt   {', '.join(models.prebuilt(reader.FILE))}")
    if newer := _newer(model.tensorflow_version):
        lines.append(f"  note       {newer}")
    if not model.signatures:
        lines.append("  signature  none, so no server can call it; export it with signatures=, or by Keras's export()")
    return lines


def _newer(version: str) -> str:
    """TensorFlow promises that it reads models of earlier versions, not of later ones ("Version compatibility")."""
    from packaging.version import InvalidVersion, Version

    from cpr_kit.prebuilt import catalogue

    own = [each for each in catalogue.IMAGES.values() if each.listed and each.framework is catalogue.TENSORFLOW]
    newest = max(Version(each.version) for each in own if each.version[:1].isdigit())
    try:
        made = Version(version)
    except InvalidVersion:
        return ""
    if made.release[:2] <= newest.release[:2]:
        return ""
    return f"the newest prebuilt image has TensorFlow {newest}, which need not read what a later one wrote: try it"


def _lines(signature: Signature) -> list[str]:
    from cpr_kit.savedmodel.signatures import shown

    width = max([6, *(len(shown(name)) for name in [*signature.inputs, *signature.outputs])])
    lines = ["", f'signature "{shown(signature.name)}"']
    lines += [f"  takes  {_tensor(tensor, width)}" for tensor in signature.inputs.values()]
    return [*lines, *(f"  gives  {_tensor(tensor, width)}" for tensor in signature.outputs.values())]


def _tensor(tensor: Tensor, width: int) -> str:
    from cpr_kit.savedmodel.signatures import shown, size_of

    more = ", may be left out" * tensor.optional + ", sparse or ragged" * (not tensor.dense)
    return f"{shown(tensor.name):{width}}  {tensor.dtype:8}  {size_of(tensor.shape)}{more}"


def _notes(signature: Signature, content: dict[str, Any], parsed: dict[str, Tensor]) -> list[str]:
    from cpr_kit.contract import MAX_BODY
    from cpr_kit.savedmodel import example
    from cpr_kit.savedmodel.signatures import INTEGERS, listed

    notes = []
    if example.needs_raw(content):
        why = "in columns" if "inputs" in content else "with a signature's name"
        notes.append(f"an endpoint takes a body {why} by rawPredict alone: cpr predict ENDPOINT --raw FILE.json")
    elif whole := [tensor.name for tensor in signature.required.values() if tensor.dtype in INTEGERS]:
        # google.protobuf.Value, which PredictRequest's instances are, has no other number.
        notes.append(f"{listed(whole)} takes whole numbers; Endpoint.predict makes doubles of them: ask by rawPredict")
    if signature.takes_examples:
        notes.append(f"{listed(signature.inputs)} is {_examples(parsed)}")
    elif pictures := [tensor.name for tensor in signature.required.values() if tensor.is_binary]:
        notes.append(f"{listed(pictures)} holds a grey JPEG of 8 x 8 pixels: put your own bytes in, in base64")
    if (size := len(json.dumps(content))) > MAX_BODY["public"]:
        notes.append(f"the body has {size:,} bytes, and a shared public endpoint takes {MAX_BODY['public']:,}")
    return notes


def _examples(parsed: dict[str, Tensor]) -> str:
    from cpr_kit.savedmodel.signatures import shown, size_of

    if not parsed:
        return (
            "likely a serialised tf.train.Example, and the graph does not tell its features: put yours in, as "
            '{"b64": "..."}'
        )
    told = (
        f"{shown(tensor.name)} {tensor.dtype}" + (f" {size_of(tensor.shape)}" if tensor.shape else "")
        for tensor in parsed.values()
    )
    return f"a serialised tf.train.Example of {', '.join(told)}"


def _example(name: str, content: dict[str, Any] | None, notes: list[str], body_file: str | None) -> list[str]:
    from cpr_kit.savedmodel.signatures import shown

    lines = [""]
    if content is not None:
        text = json.dumps(content)
        if body_file is not None:
            lines.append(f'{body_file}  written, a body for "{shown(name)}"')
        elif len(text) > _LONGEST_BODY:
            lines.append(f'a body for "{shown(name)}" has {len(text):,} bytes; --body FILE writes it')
        else:
            lines += [f'a body for "{shown(name)}":', text]
    return [*lines, *(f"note: {note}" for note in notes)]


def _facts(model: SavedModel) -> dict[str, Any]:
    from cpr_kit.cli import models
    from cpr_kit.savedmodel import reader

    def tensors(values: dict[str, Tensor]) -> dict[str, Any]:
        return {
            name: {
                "dtype": tensor.dtype,
                "shape": None if tensor.shape is None else list(tensor.shape),
                "optional": tensor.optional,
            }
            for name, tensor in values.items()
        }

    return {
        "path": str(model.path),
        "tensorflow_version": model.tensorflow_version,
        "tags": list(model.tags),
        "versions": list(model.versions),
        "assets": list(model.assets),
        "has_warmup": model.has_warmup,
        "prebuilt": models.prebuilt(reader.FILE),
        "signatures": {
            name: {
                "method": each.method,
                "inputs": tensors(dict(each.inputs)),
                "outputs": tensors(dict(each.outputs)),
            }
            for name, each in model.signatures.items()
        },
    }
