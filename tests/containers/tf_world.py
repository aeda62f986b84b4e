"""The stand-in for TensorFlow Serving as an image, built once, and models that are made in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.engine.docker import DockerEngine

CONTAINERS = Path(__file__).parents[2] / "containers"
IMAGE = "cpr-kit-tf/serving:latest"
"""It stays: whoever tests again has its 1.5 GB of TensorFlow, and builds the kit's layer alone."""


def build() -> str:
    LocalModel.build(CONTAINERS / "tf_serving", engine=DockerEngine(), tag=IMAGE)
    return IMAGE


def make_models(folder: Path) -> Path:
    """penguins/, colours/1/, cold/1/ and warm/1/ in the folder, and dense.json with answers of the last two."""
    make(Path(__file__).with_name("make_tf_models.py"), folder, {CONTAINERS: "/containers"})
    return folder


def make(script: Path, folder: Path, read: Mapping[Path, str] | None = None) -> None:
    """Run the script in the image, as this user: the folder is /models there, those to `read` where they are told."""
    import docker

    folder.chmod(0o755)  # the servers' user is another one
    volumes = {str(path): {"bind": place, "mode": "ro"} for path, place in (read or {}).items()}
    with contextlib.closing(docker.from_env()) as client:
        client.containers.run(
            IMAGE,
            ["/make.py"],
            entrypoint="python",
            environment={"TF_CPP_MIN_LOG_LEVEL": "2"},
            user=f"{os.getuid()}:{os.getgid()}",
            volumes={
                **volumes,
                str(folder): {"bind": "/models", "mode": "rw"},
                str(script): {"bind": "/make.py", "mode": "ro"},
            },
            remove=True,
        )


@contextlib.contextmanager
def tagged(name: str):
    """The stand-in under another image's name, such as a prebuilt one's."""
    import docker

    with contextlib.closing(docker.from_env()) as client:
        client.images.get(IMAGE).tag(name)
        try:
            yield name
        finally:
            client.images.remove(name)
