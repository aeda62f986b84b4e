"""The TensorFlow image, and in it the models of make_served.py on the files of photos.py."""

from __future__ import annotations

import json
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
    image = tf_world.build()
    folder = tmp_path_factory.mktemp("served")
    files = photos.make()
    (folder / "photos").mkdir()
    for name, data in files.items():
        (folder / "photos" / name).write_bytes(data)
    tf_world.make(Path(__file__).with_name("make_served.py"), folder)
    return World(image, folder, files)
