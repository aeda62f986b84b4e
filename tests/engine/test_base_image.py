from __future__ import annotations

import os
import shutil

import pytest
from contexts import write_wheel

from cpr_kit.engine import base_image
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Build
from cpr_kit.errors import BuildError, EngineUnavailable, LackingError


def test_the_plan_takes_pythons_packages_and_the_machines_certificates(tmp_path):
    command = base_image.plan(tmp_path / "my ca.pem")
    assert command[0] == "mmdebstrap"
    assert command[-2:] == ["bookworm", "-"]
    assert "libgomp1" in next(word for word in command if word.startswith("--include=")).split(",")
    assert f"--customize-hook=upload '{tmp_path}/my ca.pem' {base_image.CA_BUNDLE}" in command


def test_without_certificates_nothing_is_uploaded():
    assert not any("upload" in word or "pip.conf" in word for word in base_image.plan(None))


@pytest.mark.parametrize(
    ("name", "says"),
    [("python:3.10", "3.10"), ("mirror/python:3.12-slim", "3.12"), ("python:3.11-slim", None), ("mine:1", None)],
)
def test_a_name_that_asks_for_another_python_is_noted(name, says):
    note = base_image.mismatch(name)
    assert note is None if says is None else f"Python {says}" in note and "3.11" in note


def test_the_environments_bundle_wins_if_it_exists(tmp_path):
    (tmp_path / "ca.pem").write_text("x")
    found = base_image.ca_bundle({"SSL_CERT_FILE": "/none", "REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem")})
    assert found == tmp_path / "ca.pem"


def test_the_process_engine_has_no_images_to_base_on():
    with pytest.raises(EngineUnavailable, match="needs a container engine"):
        base_image.make("python:3.11", choose("process").engine, print)


class Sink:
    """Takes an archive as an engine does."""

    name = "sink"
    chunks = 0

    def import_archive(self, chunks, reference, changes):
        for _ in chunks:
            self.chunks += 1


def test_without_mmdebstrap_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LackingError, match="apt-get install mmdebstrap"):
        base_image.make("python:3.11", Sink(), print)


def test_a_failure_of_mmdebstrap_breaks_the_archive_off(monkeypatch, tmp_path):
    program = tmp_path / "mmdebstrap"
    program.write_text("#!/bin/sh\nprintf half\necho E: no mirror >&2\nexit 25\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sink, lines = Sink(), []
    with pytest.raises(BuildError, match="E: no mirror"):
        base_image.make("python:3.10", sink, lines.append)
    assert sink.chunks == 1
    assert lines[-1] == "E: no mirror"
    assert "3.10" in lines[0]


@pytest.mark.engine
@pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="mmdebstrap is not installed")
def test_a_real_base_image_has_python_and_a_pip_that_installs(docker_engine, tmp_path):
    name = "cpr-kit-tests/base:1"
    image = base_image.make(name, docker_engine, print)
    try:
        assert image.command == ("python3",)
        steps = "RUN python -c 'import venv, ssl' && pip --version && ! ls /var/lib/apt/lists/*Packages*"
        (tmp_path / "Dockerfile").write_text(
            f"FROM {name}\n{steps}\nCOPY *.whl /w/\nRUN pip install --no-index /w/*.whl\n"
        )
        write_wheel(tmp_path)
        docker_engine.build(Build(context=tmp_path, tag="cpr-kit-tests/base-check:1"), print)
        docker_engine.remove_image("cpr-kit-tests/base-check:1")
    finally:
        docker_engine.remove_image(name)
