"""TensorFlow Serving as the container: its specification from one name, and what does not fit together in one.

The tutorial get_started_with_tf_serving has the eight values that must agree; here all follow from the model's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpr_kit.contract import DEFAULT_PORT, ContainerSpec
from cpr_kit.errors import SpecError

IMAGE = "tensorflow/serving:2.5.4"
COMMAND = "/usr/bin/tensorflow_model_server"
STORAGE = "$(AIP_STORAGE_URI)"
NEVER_POLL = 31540000
"""Seconds, about a year: a bucket that never changes is not asked every second."""
GRPC_PORT = 8500

_PROGRAM = "tensorflow_model_server"
_OWN_PORT = 8501
"""That of tensorflow/serving's own entry point, and of vertex-ai-samples' find_ideal_machine_type."""
_FILES = ("saved_model.pb", "saved_model.pbtxt")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_ROUTE = re.compile(r"/v1/models/(?P<name>[^/:]+)(/(versions|labels)/[^/:]+)?(?P<verb>:[a-z]+)?")
_VERBS = (":predict", ":classify", ":regress")
_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Where a model lies: the folder above its versions, which is what TensorFlow Serving is given."""

    base: str
    versions: tuple[str, ...] = ()
    """Numbers, the highest first, which is served; empty where the folder cannot be looked at."""


def spec(
    name: str,
    *,
    image: str = IMAGE,
    port: int = DEFAULT_PORT,
    grpc_port: int = GRPC_PORT,
    args: Sequence[str] = (),
) -> ContainerSpec:
    """Command, arguments, routes and ports. `args` are added. Raises SpecError.

    >>> spec("flowers").predict_route
    '/v1/models/flowers:predict'
    """
    if not _NAME.fullmatch(name):
        raise SpecError(f'the model is named "{name}"; the name is part of routes: letters, digits, "_", "-" and "."')
    if port == grpc_port:
        raise SpecError(f"HTTP and gRPC both have port {port}; give grpc_port another one, such as {GRPC_PORT}")
    made = ContainerSpec(
        image_uri=image,
        command=(COMMAND,),
        args=(
            f"--model_name={name}",
            f"--model_base_path={STORAGE}",
            f"--rest_api_port={port}",
            f"--port={grpc_port}",
            f"--file_system_poll_wait_seconds={NEVER_POLL}",
            *args,
        ),
        ports=(port,),
        health_route=f"/v1/models/{name}",
        predict_route=f"/v1/models/{name}:predict",
    )
    own = {each.partition("=")[0] for each in made.args[: len(made.args) - len(args)]}
    for each in args:
        if each.partition("=")[0] in own:
            raise SpecError(f"{each} is derived here, from name, port and grpc_port; leave it out of args")
    return made


def folder(model_dir: str) -> Folder:
    """The folder above the versions, from that folder or from a version's own. Raises SpecError.

    Of a gs:// URI the last part says which it is.
    """
    if model_dir.startswith("gs://"):
        base, _, last = model_dir.rstrip("/").rpartition("/")
        return Folder(base=base, versions=(last,)) if _is_version(last) else Folder(base=model_dir)
    path = Path(model_dir).expanduser().resolve()
    if not path.is_dir():
        raise SpecError(f"{model_dir} is {'a file' if path.exists() else 'not there'}; name the folder of the model")
    if _has_model(path) and _is_version(path.name):
        path = path.parent
    if fault := version_fault(path):
        raise SpecError(fault)
    return Folder(base=str(path), versions=_versions(path))


def version_fault(base: Path) -> str | None:
    """Why TensorFlow Serving finds no version in a folder, and what to do; None where it finds one."""
    found = _versions(base)
    if any(_has_model(base / version) for version in found[:1]):
        return None
    if found:
        return (
            f"{base} has the version {found[0]}, and no {_FILES[0]} in it; the highest number is what "
            "TensorFlow Serving loads: save the model into it, or take the folder away"
        )
    if _has_model(base):
        return (
            f"{base} has {_FILES[0]} itself, and TensorFlow Serving wants a folder with a number between, the "
            f"version; move what is in it to {base / '1'}"
        )
    inside = sorted(each.name for each in base.iterdir())
    models = [name for name in inside if (base / name).is_dir() and _has_model(base / name)]
    if models:
        return (
            f"{base} has the model in {models[0]}, and TensorFlow Serving loads folders whose name is a number, the "
            f"version; rename it: {base / '1'}"
        )
    shown = ", ".join(inside[:_SHOWN]) or "nothing"
    return f"{base} has no version of a model, such as {Path('1') / _FILES[0]}; it has {shown}"


def is_one(spec: ContainerSpec) -> bool:
    """Whether a specification starts TensorFlow Serving."""
    program = (*spec.command, *spec.args)[:1]
    if program and program[0].rpartition("/")[2] == _PROGRAM:
        return True
    return not spec.command and "tensorflow/serving" in spec.image_uri.partition("@")[0]


def check(spec: ContainerSpec, artifacts: str | None) -> None:
    """Raises SpecError for a TensorFlow Serving that would start, and never get healthy; others are not looked at."""
    found = list(faults(spec, artifacts))
    if found:
        lines = ["TensorFlow Serving would not get healthy:", *(f"  {each}" for each in found)]
        if found != list(_of_folder(_flags(spec), artifacts)):
            lines.append('LocalModel.tf_serving(model_dir, name="...") derives all of it from the name')
        raise SpecError("\n".join(lines))


def faults(spec: ContainerSpec, artifacts: str | None) -> Iterator[str]:
    """What does not fit together, each with both values."""
    if not is_one(spec):
        return
    flags = _flags(spec)
    yield from _of_ports(spec, flags)
    if "model_config_file" in flags:  # its names and folders are in a file of the image's
        return
    yield from _of_names(spec, flags)
    yield from _of_folder(flags, artifacts)


def _of_ports(spec: ContainerSpec, flags: dict[str, str]) -> Iterator[str]:
    port = flags.get("rest_api_port")
    if port is None:
        if spec.command:
            yield f"--rest_api_port is missing; Vertex AI asks port {spec.port}: --rest_api_port={spec.port}"
        elif spec.port != _OWN_PORT:
            yield (
                f"the image's own start serves HTTP on port {_OWN_PORT}, and Vertex AI asks {spec.port}; "
                f"write ports {_OWN_PORT}, or --rest_api_port={spec.port}"
            )
    elif port not in {str(spec.port), "$(AIP_HTTP_PORT)"}:
        yield (
            f"--rest_api_port is {port}, and Vertex AI asks {spec.port}, the first of the ports; "
            f"write --rest_api_port={spec.port}, or ports {port}"
        )
    if port is not None and flags.get("port") == port:
        yield f"--port, for gRPC, and --rest_api_port are both {port}; write --port={GRPC_PORT}"


def _of_names(spec: ContainerSpec, flags: dict[str, str]) -> Iterator[str]:
    name = flags.get("model_name") or (None if spec.command else spec.env.get("MODEL_NAME"))
    if name is None:
        if spec.command:
            yield "--model_name is missing; the routes name the model: --model_name=NAME, /v1/models/NAME"
        return
    for what, route, verbs, example in (
        ("health route", spec.health_route, (None,), f"/v1/models/{name}"),
        ("predict route", spec.predict_route, _VERBS, f"/v1/models/{name}:predict"),
    ):
        if route is None:
            yield f"the {what} is missing, and Vertex AI's own is none of TensorFlow Serving's; write {example}"
            continue
        found = _ROUTE.fullmatch(route)
        if found is None or found["verb"] not in verbs:
            yield f"the {what} is {route}, which TensorFlow Serving does not have; write {example}"
        elif found["name"] != name:
            yield f"the {what} is {route}, and the model's name is {name} (--model_name); write {example}"


def _of_folder(flags: dict[str, str], artifacts: str | None) -> Iterator[str]:
    path = flags.get("model_base_path")
    if path is None:
        return
    if STORAGE not in path:
        if "AIP_STORAGE_URI" in path:
            yield f"--model_base_path is {path}, which nothing expands; write --model_base_path={STORAGE}"
        return
    if artifacts is None:
        yield f"--model_base_path is {path}, and there are no artifacts, so that it is empty; name the model's folder"
        return
    below = path.removeprefix(STORAGE).strip("/")
    if artifacts.startswith("gs://"):
        last = f"{artifacts.rstrip('/')}/{below}".rstrip("/").rpartition("/")[2]
        if _is_version(last):
            yield (
                f"the model's folder is {artifacts.rstrip('/')}{f'/{below}' if below else ''}, a version; TensorFlow "
                "Serving wants the folder above it"
            )
        return
    base = Path(artifacts).expanduser().resolve() / below
    if not base.is_dir():
        what = "a file" if base.exists() else "not there"
        place = base / "1" / _FILES[0]
        yield f"{base}, where the model's versions are looked for, is {what}; save the model as {place}"
    elif _is_version(base.name) and _has_model(base):
        yield f"{base} is a version; TensorFlow Serving wants the folder above it: {base.parent}"
    elif fault := version_fault(base):
        yield fault


def _flags(spec: ContainerSpec) -> dict[str, str]:
    found = {}
    for word in (*spec.command[1:], *spec.args):
        name, equals, value = word.partition("=")
        if name.startswith("-"):
            found[name.lstrip("-")] = value if equals else ""
    return found


def _versions(base: Path) -> tuple[str, ...]:
    names = [each.name for each in base.iterdir() if each.is_dir() and _is_version(each.name)]
    return tuple(sorted(names, key=int, reverse=True))


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _has_model(path: Path) -> bool:
    return any((path / each).is_file() for each in _FILES)
