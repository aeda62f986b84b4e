import base64
import csv
import hashlib
import io
import shutil
import subprocess
import sys
import zipfile

import pytest

from cpr_kit.build import wheel
from cpr_kit.version import __version__


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return wheel.write(tmp_path_factory.mktemp("wheel"))


def venv(folder):
    """A fresh virtual environment without pip; that of this Python installs into it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def install(python, *words):
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q", *words]
    subprocess.run(command, check=True, capture_output=True)


def output(python, code, cwd):
    return subprocess.run(
        [python, "-I", "-c", code], check=True, capture_output=True, text=True, cwd=cwd
    ).stdout.strip()


def test_pip_installs_it_and_it_carries_templates_and_metadata(built, tmp_path):
    python = venv(tmp_path / "venv")
    install(python, built)
    assert output(python, "import cpr_kit.version as v; print(v.__version__, v.__file__)", tmp_path).startswith(
        f"{__version__} {tmp_path}/venv/"
    )
    code = "from importlib.metadata import *; print(version('cpr-kit'), *sorted(e.name for e in entry_points(group='console_scripts')))"
    assert output(python, code, tmp_path) == f"{__version__} cpr"
    assert (tmp_path / "venv" / "bin" / "cpr").exists()
    requires = "from importlib.metadata import *; print([r for r in requires('cpr-kit') if r.startswith('starlette')])"
    assert output(python, requires, tmp_path) == "['starlette>=0.49']"


def test_an_installed_kit_makes_the_same_wheel_and_finds_the_same_templates(built, tmp_path):
    python = venv(tmp_path / "venv")
    install(python, built)
    code = """
from pathlib import Path
from cpr_kit.build import template, wheel
print(wheel.write(Path.cwd()), template.find("python"), template.base())
"""
    again, found, base = output(python, code, tmp_path).split()
    assert "/cpr_kit/_templates/python" in found
    assert base.endswith("/cpr_kit/_templates/Dockerfile.base")
    assert (tmp_path / again).read_bytes() == built.read_bytes()


def test_the_same_files_give_the_same_bytes(built, tmp_path):
    assert wheel.write(tmp_path).read_bytes() == built.read_bytes()


def test_the_record_names_every_file_with_its_digest(built):
    with zipfile.ZipFile(built) as archive:
        record = f"cpr_kit-{__version__}.dist-info/RECORD"
        rows = list(csv.reader(io.StringIO(archive.read(record).decode())))
        assert sorted(row[0] for row in rows) == sorted(archive.namelist())
        for name, digest, size in rows:
            if name != record:
                content = archive.read(name)
                expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                assert (digest, int(size)) == (f"sha256={expected}", len(content))


def test_it_holds_what_the_projects_own_build_holds(built, tmp_path):
    """The kit's wheel and that of the build backend differ in licence files alone."""
    root = wheel.template.folder().parent
    if not (root / "pyproject.toml").is_file():
        pytest.skip("no checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE", "Dockerfile.base"):
        shutil.copy(root / name, tmp_path)
    for name in ("cpr_kit", "templates"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from hatchling.build import build_wheel; print(build_wheel('.'))"
    backends = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    with zipfile.ZipFile(tmp_path / backends.split()[-1]) as theirs, zipfile.ZipFile(built) as ours:
        expected = {name for name in theirs.namelist() if "/licenses/" not in name}
        # The SDK's import names are for images alone.
        assert set(ours.namelist()) - {"_cpr_kit_sdk.pth", "_cpr_kit_sdk.py"} == expected
        assert all(ours.read(n) == theirs.read(n) for n in expected if ".dist-info/" not in n)
