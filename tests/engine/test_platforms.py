"""Platforms: what is the same, what an engine is known not to have, and a base image of another one."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.engine import platforms
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.process import _platform
from cpr_kit.engine.protocol import Build
from cpr_kit.errors import BuildError

AMD64 = {"Os": "linux", "Arch": "amd64", "KernelVersion": "6.1.0"}
FOREIGN = "cpr-kit-tests/foreign:1"


@pytest.mark.parametrize(
    ("platform", "wanted", "same"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/x86_64", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64", "linux/aarch64/v8", True),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm64", "linux/amd64", False),
        ("linux", "linux/amd64", False),
        ("", "linux/amd64", False),
    ],
)
def test_names_of_one_platform_match(platform, wanted, same):
    assert platforms.matches(platform, wanted) is same


@given(st.text(), st.text())
def test_any_two_names_are_compared(platform, wanted):
    assert platforms.matches(wanted, wanted)
    platforms.matches(platform, wanted)
    assert platforms.normalised(platforms.normalised(platform)) == platforms.normalised(platform)


@pytest.fixture
def kernel(tmp_path):
    """Which emulators the kernel says that it has."""

    def kernel(*emulators: str, status: str | None = "enabled\n") -> None:
        for name in emulators:
            (tmp_path / name).touch()
        if status is not None:
            (tmp_path / "status").write_text(status)

    return kernel


@pytest.fixture
def check(tmp_path):
    def check(wanted: str, about=AMD64, release: str = "6.1.0") -> None:
        platforms.check(wanted, about, kernel=release, emulators=tmp_path)

    return check


def test_a_platform_without_an_emulator_is_refused_with_the_command(kernel, check):
    kernel("qemu-arm", "python3.11")
    with pytest.raises(BuildError) as caught:
        check("linux/arm64")
    assert caught.value.cause == "this engine runs linux/amd64, and this machine has no emulator for arm64"
    assert "docker run --privileged --rm tonistiigi/binfmt --install arm64" in caught.value.remedy
    assert "--platform linux/amd64" in caught.value.remedy
    assert caught.value.exit_code == 3


def test_what_the_engine_or_an_emulator_runs_is_let_through(kernel, check):
    kernel("qemu-aarch64", "qemu-s390x-static")
    for wanted in ("linux/amd64", "linux/386", "linux/arm64", "linux/s390x"):
        check(wanted)
    check("linux/arm/v7", {**AMD64, "Arch": "arm64"})


def test_what_cannot_be_known_is_let_through(kernel, check):
    check("linux/arm64")  # nothing tells of emulators
    kernel()
    check("linux/arm64", release="5.15.0-microsoft")  # the engine runs on another kernel than this
    kernel(status="disabled\n")
    with pytest.raises(BuildError):
        check("linux/arm64")


@pytest.mark.parametrize(
    ("dockerfile", "images"),
    [
        ("FROM a:1", {"a:1"}),
        ("# FROM x\nARG BASE_IMAGE=z\nFROM ${BASE_IMAGE} AS one\nFROM $BASE_IMAGE\nfrom one\n", {"base:2"}),
        ("FROM scratch\nFROM $OTHER\nFROM a-$BASE_IMAGE\nFROM --platform=linux/arm64 b\n", set()),
        ("", set()),
    ],
)
def test_the_images_that_a_dockerfile_starts_from(dockerfile, images):
    assert platforms.bases(dockerfile, {"BASE_IMAGE": "base:2"}) == images


def foreign() -> bytes:
    """`docker save`'s archive of an image for linux/arm64 with one file."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = {"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}, "config": {}}
    manifest = [{"Config": "config.json", "RepoTags": [FOREIGN], "Layers": ["layer.tar"]}]
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, content in (
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
            ("layer.tar", layer.getvalue()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return whole.getvalue()


@pytest.mark.engine
@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_a_base_image_of_another_platform_is_told_apart_from_none(tmp_path, builder):
    engine = DockerEngine(builder=builder)
    engine._client.images.load(foreign())
    (tmp_path / "Dockerfile").write_text(f"FROM {FOREIGN}\nCOPY Dockerfile /\n")
    try:
        with pytest.raises(BuildError) as caught:
            engine.build(Build(context=tmp_path, tag="cpr-kit-tests/p:1", platform="linux/amd64"), lambda _: None)
        assert caught.value.cause.startswith(f"this machine has {FOREIGN} for linux/arm64 alone")
        assert f"docker pull --platform linux/amd64 {FOREIGN}" in caught.value.remedy
        assert "--platform linux/arm64" in caught.value.remedy
        assert caught.value.exit_code == 3
        made = engine.build(Build(context=tmp_path, tag="cpr-kit-tests/p:1", platform="linux/arm64"), lambda _: None)
        assert made.platform == "linux/arm64"
    finally:
        engine.remove_image("cpr-kit-tests/p:1")
        engine.remove_image(FOREIGN)


def test_the_process_engine_speaks_only_of_another_platform(tmp_path, context):
    from cpr_kit.engine.process import ProcessEngine

    engine = ProcessEngine({"CPR_CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"})
    engine._install = lambda *_: None
    said = {}
    for wanted in (_platform(), "linux/s390x"):
        lines = said[wanted] = []
        engine.build(Build(context=context, tag="cpr-kit-tests/p:1", platform=wanted), lines.append)
    assert not any(_platform() in line for line in said[_platform()])
    assert any(line.startswith("linux/s390x was asked for") for line in said["linux/s390x"])
