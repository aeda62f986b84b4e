"""The TensorFlow image, and in it the models of make_served.py on the files of photos.py."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import photos
import pytest

sys.path.append(str(Path(__file__).parents[1] / "containers"))

import tf_world  # noqa: E402


class World:
    """`folder` has the models, `files` the photographs by name, `made` what make_served.py found."""

    def __init__(self, image, folder, files):
        self.image, self.folder, self.files = image, folder, files
        self.made = json.loads((folder / "made.json").read_text())


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    import docker

    image = tf_world.build()
    folder = tmp_path_factory.mktemp("served")
    folder.chmod(0o755)  # the servers' user is another one
    files = photos.make()
    (folder / "photos").mkdir()
    for name, data in files.items():
        (folder / "photos" / name).write_bytes(data)
    with contextlib.closing(docker.from_env()) as client:
        client.containers.run(
            image,
            ["/make.py"],
            entrypoint="python",
            environment={"TF_CPP_MIN_LOG_LEVEL": "3"},
            user=f"{os.getuid()}:{os.getgid()}",
            volumes={
                str(folder): {"bind": "/models", "mode": "rw"},
                str(Path(__file__).with_name("make_served.py")): {"bind": "/make.py", "mode": "ro"},
            },
            remove=True,
        )
    return World(image, folder, files)
