"""Images from one real registry to another: the same digest, only what lacks, and through broken connections."""

import json
import os
import tracemalloc

import pytest
from click.testing import CliRunner
from dep_registry import Relay, digest_of, log_in, put, put_index, served_digest, serving

from cpr_kit.cli import mirror as cli
from cpr_kit.deploy.registry import client
from cpr_kit.deploy.registry.mirror import mirror
from cpr_kit.deploy.registry.remote import remote
from cpr_kit.errors import RegistryError

MB = 1 << 20
HOST, OTHER = "us-central1-docker.pkg.dev", "europe-west4-docker.pkg.dev"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("source")) as running:
        yield running


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("target")) as running:
        yield running


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(client, "_PAUSE_S", 0.01)


def sent(lines):
    """How many blobs were copied, and how many were there already."""
    words = lines[-1].partition(": ")[2].split()
    return int(words[0]), int(words[-4])


def test_the_digest_at_the_target_is_the_sources(source, target):
    manifest = put(source.name("team/iris:1"), layers=(b"one", b"two"))
    lines = []
    copied = mirror(source.name("team/iris:1"), target.name("other/flower:2"), lines.append)
    assert copied.digest == manifest.digest == served_digest(target.name("other/flower:2"))
    assert copied.reference == target.name("other/flower:2")
    assert copied.platforms == ("linux/amd64",)
    assert sent(lines) == (3, 0)

    lines.clear()
    assert mirror(source.name("team/iris:1"), target.name("other/flower:2"), lines.append) == copied
    assert lines == [f"{target.name('other/flower:2')} is there already: {manifest.digest}"]


def test_a7_4_a_copy_is_by_digest_and_cpu_and_gpu_are_never_mixed_up(source, target):
    made = {
        kind: put(source.name(f"tensorflow/serving:2.5.4{kind}"), layers=(b"base", kind.encode() or b"cpu"))
        for kind in ("", "-gpu")
    }
    copied = {
        kind: mirror(
            source.name(f"tensorflow/serving:2.5.4{kind}"),
            target.name(f"my-docker-repo/tf_serving:{kind.strip('-') or 'cpu'}"),
        )
        for kind in made
    }
    assert copied[""].digest == made[""].digest == served_digest(target.name("my-docker-repo/tf_serving:cpu"))
    assert copied["-gpu"].digest == made["-gpu"].digest == served_digest(target.name("my-docker-repo/tf_serving:gpu"))
    assert copied[""].digest != copied["-gpu"].digest


def test_an_index_comes_with_all_that_it_lists(source, target):
    index = put_index(source.name("team/several:1"))
    copied = mirror(source.name("team/several:1"), target.name("team/several:1"))
    assert copied.digest == index.digest == served_digest(target.name("team/several:1"))
    assert copied.platforms == ("linux/amd64", "linux/arm64")
    for child in json.loads(index.body)["manifests"]:
        assert remote(f"{target.address}/team/several@{child['digest']}").digest == child["digest"]


def test_only_what_lacks_is_copied(source, target):
    put(source.name("team/first:1"), layers=(b"shared base", b"code 1"))
    put(source.name("team/first:2"), layers=(b"shared base", b"code 2"))
    mirror(source.name("team/first:1"), target.name("team/first:1"))
    lines = []
    mirror(source.name("team/first:2"), target.name("team/first:2"), lines.append)
    assert sent(lines) == (1, 2)


def test_within_one_registry_nothing_is_sent_at_all(source):
    put(source.name("team/near:1"), layers=(b"n" * MB,))
    relay, lines = Relay(source.address, after=1 << 14, cuts=100, way="down"), []
    with relay.serving():
        copied = mirror(f"{relay.address}/team/near:1", f"{relay.address}/elsewhere/near:1", lines.append)
    assert relay.broken == 0
    assert sent(lines) == (0, 2)
    assert copied.digest == served_digest(source.name("elsewhere/near:1"))


def test_the_target_gets_the_sources_tag_or_its_digest_alone(source, target):
    manifest = put(source.name("team/named:v7"), layers=(b"named",))
    assert mirror(source.name("team/named:v7"), target.name("team/named")).reference == target.name("team/named:v7")
    by_digest = mirror(f"{source.address}/team/named@{manifest.digest}", target.name("team/bare"))
    assert by_digest.reference == f"{target.address}/team/bare@{manifest.digest}"
    assert remote(f"{target.address}/team/bare:latest") is None
    with pytest.raises(RegistryError, match="leave the target's digest away"):
        mirror(source.name("team/named:v7"), f"{target.address}/team/bare@sha256:{'0' * 64}")


def test_what_is_not_there_is_said(source, target):
    with pytest.raises(RegistryError, match="has no .*team/none:1"):
        mirror(source.name("team/none:1"), target.name("team/none:1"))


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_connection_that_breaks_within_a_layer_is_taken_up_again(source, target, way, short_pauses):
    """Down: the source's breaks, up: the target's."""
    layer = os.urandom(6 * MB)
    manifest = put(source.name(f"team/cut-{way}:1"), layers=(layer,))
    relay = Relay((source if way == "down" else target).address, after=2 * MB, cuts=2, way=way)
    with relay.serving():
        if way == "down":
            mirror(f"{relay.address}/team/cut-down:1", target.name("team/cut-down:1"))
        else:
            mirror(source.name("team/cut-up:1"), f"{relay.address}/team/cut-up:1")
    assert relay.broken == 2
    assert served_digest(target.name(f"team/cut-{way}:1")) == manifest.digest
    assert target.has(digest_of(layer))


def test_a_broken_download_goes_on_where_it_broke(source, target, short_pauses):
    layer = os.urandom(6 * MB)
    put(source.name("team/resumed:1"), layers=(layer,))
    relay = Relay(source.address, after=4 * MB, cuts=1, way="down")
    with relay.serving():
        mirror(f"{relay.address}/team/resumed:1", target.name("team/resumed:1"))
    said = [line for line in source.log.read_text().splitlines() if digest_of(layer)[7:] in line and '"GET' in line]
    lengths = [int(line.split('HTTP/1.1" ')[1].split()[1]) for line in said if "team/resumed" in line]
    assert len(lengths) == 2
    assert sorted(lengths)[0] <= 3 * MB  # the second answer had the rest alone


def test_a_copy_that_failed_is_finished_by_the_next_run(source, target, short_pauses):
    small, large = os.urandom(MB), os.urandom(4 * MB)
    manifest = put(source.name("team/failed:1"), layers=(small, large))
    relay = Relay(target.address, after=2 * MB, cuts=100, way="up")
    with relay.serving(), pytest.raises(RegistryError, match="broke the connection.*what arrived is kept"):
        mirror(source.name("team/failed:1"), f"{relay.address}/team/failed:1")
    assert target.has(digest_of(small))
    assert not target.has(digest_of(large))
    assert remote(target.name("team/failed:1")) is None

    lines = []
    assert mirror(source.name("team/failed:1"), target.name("team/failed:1"), lines.append).digest == manifest.digest
    assert sent(lines) == (1, 2)


def test_a_layer_that_its_registry_has_spoilt_is_refused(source, target):
    layer = b"as it was pushed"
    put(source.name("team/spoilt:1"), layers=(layer,))
    value = digest_of(layer)[7:]
    (source.folder / f"docker/registry/v2/blobs/sha256/{value[:2]}/{value}/data").write_bytes(b"as it rotted now")
    with pytest.raises(RegistryError, match="DIGEST_INVALID"):
        mirror(source.name("team/spoilt:1"), target.name("team/spoilt:1"))
    assert remote(target.name("team/spoilt:1")) is None


def test_a_manifest_that_its_registry_has_spoilt_is_refused(source, target):
    manifest = put(source.name("team/forged:1"), layers=(b"forged",))
    value = manifest.digest[7:]
    data = source.folder / f"docker/registry/v2/blobs/sha256/{value[:2]}/{value}/data"
    data.write_bytes(manifest.body + b" ")
    with pytest.raises(RegistryError, match="arrived as sha256"):
        mirror(source.name("team/forged:1"), target.name("team/forged:1"))


def test_a_large_layer_does_not_fill_the_memory(source, target):
    put(source.name("team/large:1"), layers=(os.urandom(MB) * 48,))
    tracemalloc.start()
    try:
        mirror(source.name("team/large:1"), target.name("team/large:1"))
        assert tracemalloc.get_traced_memory()[1] < 12 * MB
    finally:
        tracemalloc.stop()


def test_a_login_is_used_for_the_registry_it_is_for(source, tmp_path, monkeypatch):
    put(source.name("team/closed:1"), layers=(b"closed",))
    with serving(tmp_path / "closed", login=True) as closed:
        monkeypatch.setenv("DOCKER_CONFIG", str(log_in(tmp_path / "docker", closed.address)))
        copied = mirror(source.name("team/closed:1"), closed.name("team/closed:1"))
        back = mirror(closed.name("team/closed:1"), source.name("team/back:1"))
    assert copied.digest == back.digest == served_digest(source.name("team/back:1"))


def test_under_an_emulator_regions_are_repositories_of_its_registry(source, monkeypatch):
    manifest = put(f"{source.address}/{HOST}/p/r/iris:1", layers=(b"regional",))
    monkeypatch.setenv("CPR_REGISTRY", source.address)
    copied = mirror(f"{HOST}/p/r/iris:1", f"{OTHER}/p/r/iris:1")
    assert (copied.reference, copied.digest) == (f"{OTHER}/p/r/iris:1", manifest.digest)
    assert served_digest(f"{source.address}/{OTHER}/p/r/iris:1") == manifest.digest


def test_the_command_copies_to_several_and_says_what_it_did(source, target, tmp_path, monkeypatch):
    manifest = put(source.name("team/command:1"), layers=(b"command",))
    monkeypatch.setenv("CPR_CACHE", str(tmp_path))
    arguments = [source.name("team/command:1"), "--to", f"{target.address}/a/", "--to", target.name("b/c:2"), "--json"]
    for pushed in (True, False):
        run = CliRunner().invoke(cli.command, arguments, catch_exceptions=False)
        told = json.loads(run.stdout)
        assert told["digest"] == manifest.digest
        assert told["references"] == [
            {"reference": target.name("a/command:1"), "pushed": pushed},
            {"reference": target.name("b/c:2"), "pushed": pushed},
        ]
    noted = json.loads((tmp_path / "pushed.json").read_text())
    assert noted[target.name("b/c:2")]["digest"] == manifest.digest


def test_one_registry_that_fails_keeps_nobody_from_the_others(source, target, tmp_path, monkeypatch):
    put(source.name("team/partly:1"), layers=(b"partly",))
    monkeypatch.setenv("CPR_CACHE", str(tmp_path))
    forged = put(target.name("bad/partly:1"), layers=(b"other",))
    value = forged.digest[7:]
    (target.folder / f"docker/registry/v2/blobs/sha256/{value[:2]}/{value}/data").write_bytes(b"{}")
    arguments = [
        source.name("team/partly:1"),
        "--to",
        target.name("bad/partly:1"),
        "--to",
        target.name("good/partly:1"),
    ]
    run = CliRunner().invoke(cli.command, arguments)
    assert isinstance(run.exception, RegistryError)
    assert f"(done: {target.name('good/partly:1')})" in str(run.exception)
    assert served_digest(target.name("good/partly:1")) == served_digest(source.name("team/partly:1"))
