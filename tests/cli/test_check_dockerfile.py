"""`cpr check Dockerfile`, as a user calls it: nothing is built, no engine is asked."""

import json
import shutil
from pathlib import Path

import pytest

SEEDED = Path(__file__).parents[1] / "build" / "dockerfiles"
NO_ENGINE = {"DOCKER_HOST": "tcp://127.0.0.1:1"}


@pytest.fixture
def folder(tmp_path):
    def make(name="sound"):
        return Path(shutil.copytree(SEEDED / name, tmp_path / name))

    return make


def test_each_fault_is_named_with_its_line_and_what_to_write(cpr, folder):
    done = cpr("check", folder("faults") / "Dockerfile", **NO_ENGINE)

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert any(
        line.startswith("FAIL") and "Dockerfile:6 AIP variable: ENV sets AIP_HTTP_PORT" in line for line in lines
    )
    assert any(line.startswith("note") and "Dockerfile:10 order" in line for line in lines)
    assert lines[-1].endswith("8 breaches, 1 note")
    assert "      do: " in done.stdout
    assert "      rule: " in done.stdout


def test_the_same_as_json(cpr, folder):
    path = folder("faults") / "Dockerfile"
    value = json.loads(cpr("check", path, "--json", **NO_ENGINE).stdout)

    assert (value["passed"], value["dockerfile"], "checks" in value) == (False, str(path), False)
    first = value["findings"][0]
    assert (first["path"], first["line"], first["severity"], first["name"]) == (str(path), 4, "breach", "secret")
    assert first["rule"]
    assert first["instead"]


def test_a_sound_file_passes_from_within_its_folder(cpr, folder):
    done = cpr("check", "Dockerfile", cwd=folder(), **NO_ENGINE)
    assert (done.returncode, done.stdout) == (0, "Dockerfile: no breaches, no notes\n")
    assert "built from this folder, asked on port 8080" in done.stderr


def test_a_file_of_another_name_in_a_folder_below(cpr, folder):
    root = folder()
    (root / "docker").mkdir()
    (root / "Dockerfile").rename(root / "docker/serving.Dockerfile")
    (root / "entrypoint.sh").write_text("#!/bin/sh\nAIP_HTTP_PORT=1 python server.py\n")
    text = (root / "docker/serving.Dockerfile").read_text()
    (root / "docker/serving.Dockerfile").write_text(text.replace('["python", "server.py"]', '["./entrypoint.sh"]'))

    done = cpr("check", "docker/serving.Dockerfile", cwd=root, **NO_ENGINE)

    assert done.returncode == 1
    assert "FAIL  entrypoint.sh:2 AIP variable" in done.stdout
    assert "FAIL  entrypoint.sh:2 signals" in done.stdout
    apart = cpr("check", "docker/serving.Dockerfile", "--context", "docker", cwd=root, **NO_ENGINE)
    assert "requirements.txt does not exist in docker" in apart.stdout


def test_the_port_is_that_of_the_option_or_of_cpr_toml(cpr, folder):
    root = folder()
    (root / "Dockerfile").write_text((root / "Dockerfile").read_text().replace('server.py"]', 'other.py"]'))
    assert cpr("check", "Dockerfile", cwd=root).returncode == 0
    assert (
        "EXPOSE 8080, and Vertex AI asks 7080" in cpr("check", "Dockerfile", "--container-port", 7080, cwd=root).stdout
    )
    (root / "cpr.toml").write_text("[image]\nports = [7081, 8080]\n")
    assert "EXPOSE 8080, and Vertex AI asks 7081" in cpr("check", "Dockerfile", cwd=root).stdout


def test_a_folder_with_its_own_dockerfile_is_looked_at_before_it_is_built(cpr, folder):
    root = folder("faults")
    (root / "cpr.toml").write_text('[image]\ndockerfile = "Dockerfile"\n')

    done = cpr("check", root, "--json", **NO_ENGINE)

    value = json.loads(done.stdout)
    assert (done.returncode, value["passed"], "checks" in value) == (1, False, False)
    assert [each["line"] for each in value["findings"]] == [4, 5, 6, 8, 10, 16, 17, 17, 17]


def test_a_folder_whose_dockerfile_is_sound_is_built_and_asked(cpr, folder):
    """As far as an engine: without one there is nothing to build with."""
    root = folder()
    (root / "cpr.toml").write_text('[image]\ndockerfile = "Dockerfile"\n')
    done = cpr("check", root, "--engine", "docker", **NO_ENGINE)
    assert done.returncode == 3
    assert "asked on port 8080" in done.stderr


def test_what_is_no_dockerfile(cpr, tmp_path, doubles):
    for name in ("Dockerfile", "serving.Dockerfile", "Containerfile"):
        done = cpr("check", tmp_path / name)
        assert (done.returncode, "does not exist" in done.stderr) == (2, True)
    (tmp_path / "Dockerfile").write_bytes(b"\xff\xfe\x00")
    done = cpr("check", tmp_path / "Dockerfile")
    assert (done.returncode, "not UTF-8" in done.stderr) == (2, True)
    done = cpr("check", doubles / "predictor.py")
    assert (done.returncode, "is no Dockerfile" in done.stderr) == (2, True)
    done = cpr("check", doubles, "--context", tmp_path)
    assert (done.returncode, "--context belongs to a Dockerfile" in done.stderr) == (2, True)
