"""The servers that a container may start: which packages bring them, where they listen, and when they return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FOLLOWS = "AIP_HTTP_PORT"
FOLLOWERS = ("cpr_kit.runtime", "google.cloud.aiplatform.prediction.model_server")
"""Servers that listen where it says."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A program or module. `port` and `host` are its defaults; None where this file cannot tell.

    `variables` names those that it reads port and host from.
    """

    distributions: frozenset[str] = frozenset()
    port: int | None = None
    host: str | None = None
    ports: tuple[str, ...] = ("--port",)
    hosts: tuple[str, ...] = ("--host",)
    binds: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    """It serves only with one of these words behind its name."""


_ANY, _LOCAL = "0.0.0.0", "127.0.0.1"  # noqa: S104
_UVICORN = frozenset(
    {
        "uvicorn", "fastapi[standard]", "fastapi[all]", "fastapi-cli", "google-cloud-aiplatform[prediction]", "cpr-kit",
        "bentoml", "gradio", "kserve", "litserve", "mlflow", "mlserver", "ray[serve]", "vllm", "nicegui", "chainlit",
    }
)  # fmt: skip
_FASTAPI = _UVICORN - {"uvicorn", "cpr-kit", "mlserver", "fastapi-cli"} | {"fastapi"}
_STARLETTE = _FASTAPI | {"starlette", "cpr-kit", "mlserver"}
SDK = "google-cloud-aiplatform"
KIT = "cpr-kit"

BROUGHT_BY: Mapping[str, frozenset[str]] = {
    "aiohttp": frozenset({"aiohttp"}),
    "bottle": frozenset({"bottle"}),
    "cpr_kit": frozenset({KIT}),
    "daphne": frozenset({"daphne"}),
    "falcon": frozenset({"falcon"}),
    "fastapi": _FASTAPI,
    "flask": frozenset({"flask", "mlflow", "mlflow-skinny", "dash", "flask-restful", "flask-cors"}),
    "google.cloud.aiplatform": frozenset({SDK, KIT}),
    "gunicorn": frozenset({"gunicorn", "cpr-kit", "mlflow"}),
    "hypercorn": frozenset({"hypercorn", "quart"}),
    "litestar": frozenset({"litestar"}),
    "quart": frozenset({"quart"}),
    "sanic": frozenset({"sanic"}),
    "starlette": _STARLETTE,
    "tornado": frozenset({"tornado", "bokeh", "jupyter", "notebook"}),
    "uvicorn": _UVICORN,
    "waitress": frozenset({"waitress", "mlflow"}),
}
"""Modules that serve, and the distributions known to bring each. No other import is held against what is installed."""

SERVERS: Mapping[str, Server] = {
    "bentoml": Server(
        distributions=frozenset({"bentoml"}), port=3000, host=_ANY, ports=("--port", "-p"), commands=("serve",)
    ),
    "cpr_kit.runtime": Server(distributions=frozenset({KIT}), ports=(), hosts=()),
    "daphne": Server(
        distributions=frozenset({"daphne"}), port=8000, host=_LOCAL, ports=("--port", "-p"), hosts=("--bind", "-b"),
        configs=("-u", "--unix-socket", "--fd", "-e", "--endpoint"),
    ),
    "fastapi": Server(
        distributions=_UVICORN - {"uvicorn", "cpr-kit", "mlserver"}, port=8000, host=_ANY, commands=("run", "dev"),
    ),
    "flask": Server(
        distributions=BROUGHT_BY["flask"], port=5000, host=_LOCAL, ports=("--port", "-p"), hosts=("--host", "-h"),
        variables={"port": "FLASK_RUN_PORT", "host": "FLASK_RUN_HOST"}, commands=("run",),
    ),
    "google.cloud.aiplatform.prediction.model_server": Server(
        distributions=frozenset({SDK, KIT}), ports=(), hosts=()
    ),
    "granian": Server(distributions=frozenset({"granian"}), port=8000, host=_LOCAL),
    "gunicorn": Server(
        distributions=BROUGHT_BY["gunicorn"], port=8000, host=_LOCAL, ports=(), hosts=(), binds=("--bind", "-b"),
        configs=("--config", "-c"), variables={"port": "PORT", "all": "GUNICORN_CMD_ARGS"},
    ),
    "http.server": Server(port=8000, host=_ANY, ports=(), hosts=("--bind", "-b")),
    "hypercorn": Server(
        distributions=BROUGHT_BY["hypercorn"], port=8000, host=_LOCAL, ports=(), hosts=(), binds=("--bind", "-b"),
        configs=("--config", "-c"),
    ),
    "mlflow": Server(
        distributions=frozenset({"mlflow"}), port=5000, host=_LOCAL, ports=("--port", "-p"), hosts=("--host", "-h"),
        commands=("models", "server"),
    ),
    "tensorflow_model_server": Server(ports=("--rest_api_port",), hosts=()),
    "torchserve": Server(distributions=frozenset({"torchserve"}), ports=(), hosts=()),
    "tritonserver": Server(port=8000, host=_ANY, ports=("--http-port",), hosts=("--http-address",)),
    "uvicorn": Server(
        distributions=_UVICORN, port=8000, host=_LOCAL, configs=("--uds", "--fd"),
        variables={"port": "UVICORN_PORT", "host": "UVICORN_HOST"},
    ),
    "vllm": Server(distributions=frozenset({"vllm"}), port=8000, host=_ANY, commands=("serve",)),
    "waitress-serve": Server(
        distributions=BROUGHT_BY["waitress"], port=8080, host=_ANY, binds=("--listen",), configs=("--unix-socket",)
    ),
}  # fmt: skip

MODULES = {"waitress": "waitress-serve", "vllm.entrypoints.openai.api_server": "vllm"}
"""Modules (`python -m`) whose program has another name."""

_PYTHONS = ("python", "pypy", "python-slim")
_PLAIN = (
    "alpine", "almalinux", "amazonlinux", "busybox", "buildpack-deps", "centos", "debian", "fedora", "nvidia/cuda",
    "oraclelinux", "rockylinux", "ubuntu", "ubi8", "ubi9", "scratch",
)  # fmt: skip
_BASH_IS_SH = ("almalinux", "amazonlinux", "centos", "fedora", "oraclelinux", "rockylinux", "ubi8", "ubi9")
_HOSTS = ("docker.io/", "index.docker.io/", "mirror.gcr.io/", "public.ecr.aws/docker/", "library/")


def repository(image: str) -> str:
    """An official image's name without host, tag and digest.

    >>> repository("docker.io/library/python:3.11-slim")
    'python'
    """
    name = image.partition("@")[0]
    head, _, last = name.rpartition("/")
    name = f"{head}/{last.partition(':')[0]}" if head else last.partition(":")[0]
    for host in _HOSTS:
        name = name.removeprefix(host)
    return name


def starts_python(image: str | None) -> bool:
    return image is not None and repository(image) in _PYTHONS


def starts_shell(image: str | None) -> bool:
    return image is not None and repository(image) in _PLAIN


def is_bare(image: str | None) -> bool:
    """Whether it is known to bring no Python package and to run as root."""
    return starts_python(image) or starts_shell(image)


def shell_leaves(image: str | None) -> bool:
    """Whether the base's /bin/sh is a bash, which makes way for the last command of `sh -c`. dash does not."""
    return image is not None and repository(image) in _BASH_IS_SH
