import os
import sys

import pytest
from contexts import write_context

from cpr_kit.engine.manifest import Manifest, tree_digest


@pytest.fixture
def folder(tmp_path):
    for version in ("v1", "v2"):
        (tmp_path / "tree" / version).mkdir(parents=True)
        (tmp_path / "tree" / version / "module.py").write_text("x = 1")
    (tmp_path / "tree" / "current").symlink_to("v1")
    return tmp_path / "tree"


def retarget(folder):
    (folder / "current").unlink()
    (folder / "current").symlink_to("v2")


CHANGES = {
    "content": lambda folder: (folder / "v1" / "module.py").write_text("x = 2"),
    "name": lambda folder: (folder / "v1" / "module.py").rename(folder / "v1" / "other.py"),
    "link": retarget,
    "permission": lambda folder: (folder / "v1" / "module.py").chmod(0o755),
    "empty folder": lambda folder: (folder / "v3").mkdir(),
    "no Unicode name": lambda folder: (folder / os.fsdecode(b"b\xff.txt")).write_text("x"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_a_tree_changes_its_digest(folder, change):
    before = tree_digest(folder)
    assert tree_digest(folder) == before
    CHANGES[change](folder)
    assert tree_digest(folder) != before


def test_an_extra_package_may_be_a_folder(tmp_path):
    context = write_context(tmp_path / "context")
    package = context / "packages" / "mine"
    package.mkdir(parents=True)
    (package / "pyproject.toml").write_text("[project]")
    table = (context / "image.json").read_text()
    (context / "image.json").write_text(table.replace('"extra_packages": []', '"extra_packages": ["packages/mine"]'))

    before = Manifest.read(context).environment_key
    (package / "mine.py").write_text("x = 1")
    assert Manifest.read(context).environment_key != before


def test_a_lock_is_part_of_what_is_installed_and_must_fit(tmp_path):
    context = write_context(tmp_path / "context")
    table = (context / "image.json").read_text()
    (context / "image.json").write_text(table.replace('"lock": null', '"lock": "requirements/requirements.lock"'))
    here = f"# for: Python {sys.version_info[0]}.{sys.version_info[1]}, linux/amd64\n"
    keys, fits = set(), []
    for text in (here, here + "a==1\n", here.replace("amd64", "arm64"), here.replace("Python 3", "Python 9")):
        (context / "requirements" / "requirements.lock").write_text(text)
        keys.add(Manifest.read(context).environment_key)
        fits.append(Manifest.read(context).lock_fits)
    assert len(keys) == 4
    assert fits == [True, True, False, False]
