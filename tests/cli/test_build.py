"""`cpr build`: its platform, its bill of materials, and a machine that has no room."""

import json
import os
import shutil
import subprocess
import sys

import pytest

PROCESS = ("--engine", "process")


def test_a_bill_of_materials_is_written_on_request(cpr, doubles, tmp_path):
    done = cpr("build", doubles, "-t", "cpr-test-bill:1", "--sbom", tmp_path / "bill.json", "--json", *PROCESS)

    assert done.returncode == 0, done.stderr
    bill = json.loads((tmp_path / "bill.json").read_text("utf-8"))
    names = {part["name"] for part in bill["components"]}
    assert {"cpr-kit", "starlette", "numpy", "python"} <= names
    assert f"{len(bill['components'])} components" in done.stderr
    assert bill["metadata"]["component"]["version"] == json.loads(done.stdout)["id"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sbom", "none/bill.json"), "there is no folder"),
        (("--platform", "amd64"), '[image] platform (CPR_IMAGE_PLATFORM, --platform) is "amd64"'),
        (("--platform", "windows/amd64"), "it is written linux/amd64"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(cpr, doubles, tmp_path, arguments, message):
    done = cpr("build", doubles, *arguments, *PROCESS, cwd=tmp_path)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Step" not in done.stderr


def test_no_room_for_the_context_is_said(doubles, tmp_path):
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a small disk needs root and unshare")
    small = tmp_path / "small"
    small.mkdir()
    mount = "mount -t tmpfs -o size=64k tmpfs $TMPDIR && exec $0 -m cpr_kit build $1 --engine process"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, sys.executable, doubles],
        env={**os.environ, "TMPDIR": str(small)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 3
    assert f"no space is left in {small}" in done.stderr
    assert "set TMPDIR" in done.stderr
