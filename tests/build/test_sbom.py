"""The bill of materials: what it is read from, what stands in it, and that it is the same each time."""

from __future__ import annotations

import importlib.util
import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from cpr_kit.build import inventory, sbom
from cpr_kit.build.inventory import Distribution, Inventory, Package
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.protocol import Build, Image
from cpr_kit.errors import ConfigError, LackingError, MissingExtra

SITE = "opt/cpr/lib/python3.11/site-packages"
IMAGE = Image(reference="iris:1", id="sha256:" + "a" * 64, platform="linux/amd64")
HASH = "c" * 64
FILES = {
    f"{SITE}/numpy-2.4.6.dist-info/METADATA": "Name: numpy\nVersion: 2.4.6\nLicense-Expression: BSD-3-Clause AND MIT\n",
    f"{SITE}/Foo_Bar-1.0.dist-info/METADATA": (
        "Name: Foo_Bar\nVersion: 1.0\nLicense: MIT\nClassifier: License :: OSI Approved :: BSD License\n"
        'Requires-Dist: numpy>=2\nRequires-Dist: absent\nRequires-Dist: scipy; extra == "all"\n\nA description.\n'
    ),
    f"{SITE}/scipy-1.17.dist-info/METADATA": (
        f"Name: scipy\nVersion: 1.17\nLicense: Copyright (c) 2001\n {'words ' * 40}\n"
        "Classifier: License :: OSI Approved :: BSD License\n"
    ),
    "usr/lib/python3/dist-packages/numpy-1.24.egg-info/PKG-INFO": "Name: numpy\nVersion: 1.24\nLicense: UNKNOWN\n",
    "usr/lib/python3/dist-packages/old.egg-info": "Name: old\nVersion: 3\n",
    f"{SITE}/broken-1.dist-info/METADATA": "no headers at all",
    "opt/cpr/pyvenv.cfg": "home = /usr/bin\nversion = 3.11.2\n",
    "usr/lib/os-release": 'NAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n',
    "var/lib/dpkg/status": (
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u14\nDescription: C\n lib\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1:2\n\n"
        "Package: never\nStatus: unknown ok not-installed\nArchitecture: all\nVersion: 2\n"
    ),
}
LOCK = f"""\
# Made by `cpr lock`
numpy==2.4.6 \\
    --hash=sha256:{"a" * 64} \\
    --hash=sha256:{"b" * 64}
foo-bar==1.0 ; python_version >= "3" \\
    --hash=sha256:{HASH}
"""


def found(lock: str = "") -> Inventory:
    return inventory.read(((path, text.encode()) for path, text in FILES.items() if inventory.wanted(path)), lock)


def test_what_is_read():
    seen = found(LOCK)
    assert [(each.name, each.version) for each in seen.distributions] == [
        *(("Foo_Bar", "1.0"), ("numpy", "1.24"), ("numpy", "2.4.6"), ("old", "3"), ("scipy", "1.17")),
    ]
    assert seen.distributions[0] == Distribution(
        name="Foo_Bar",
        version="1.0",
        licences=("MIT",),
        needs=("absent", "numpy"),
        paths=(f"/{SITE}/Foo_Bar-1.0.dist-info",),
        hashes=(HASH,),
    )
    assert seen.distributions[2].licences == ("BSD-3-Clause AND MIT",)
    assert seen.distributions[4].licences == ("BSD License",)
    assert seen.packages == (Package(name="libc6", version="2.36-9+deb12u14", architecture="amd64"),)
    assert (seen.python, seen.system["ID"], seen.system["VERSION_ID"]) == ("3.11.2", "debian", "12")


def test_only_what_tells_something_is_wanted():
    assert all(inventory.wanted(path) for path in FILES)
    for path in (
        f"{SITE}/numpy/METADATA",
        "var/lib/dpkg/status-old",
        "var/lib/dpkg/status.d/libc6.md5sums",
        "etc/passwd",
    ):
        assert not inventory.wanted(path)
    assert inventory.wanted("var/lib/dpkg/status.d/libc6")  # as distroless images have it


def test_the_bill_names_everything_and_keeps_to_the_schema():
    text = sbom.text(found(LOCK), IMAGE)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["name"] == "iris:1"
    assert bill["metadata"]["component"]["version"] == IMAGE.id
    parts = {part["bom-ref"]: part for part in bill["components"]}
    numpy = parts["pkg:pypi/numpy@2.4.6"]
    assert numpy["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]
    assert "hashes" not in numpy
    assert [each["value"][0] for each in numpy["properties"]] == ["a", "b"]
    foo = parts["pkg:pypi/foo-bar@1.0"]
    assert foo["licenses"] == [{"license": {"id": "MIT"}}]
    assert foo["hashes"] == [{"alg": "SHA-256", "content": HASH}]
    assert parts["pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12"]["version"] == "2.36-9+deb12u14"
    assert (parts["python"]["version"], parts["operating-system"]["name"]) == ("3.11.2", "debian")
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    assert needs["pkg:pypi/foo-bar@1.0"] == ["pkg:pypi/numpy@2.4.6"]
    assert "pkg:pypi/foo-bar@1.0" in needs["image"]


def test_the_bill_is_the_same_each_time_and_in_any_order():
    first = sbom.text(found(), IMAGE)
    backwards = inventory.read((path, FILES[path].encode()) for path in reversed(FILES))
    assert sbom.text(backwards, IMAGE) == sbom.text(found(), IMAGE) == first
    assert "serialNumber" not in first
    assert "timestamp" not in first


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(WORDS | st.sampled_from(["a", "B.c"]), WORDS, WORDS), max_size=5))
def test_whatever_a_distribution_says_of_itself_becomes_a_bill(rows):
    texts = [f"Name: {name}\nVersion: {version}\nLicense-Expression: {licence}\n" for name, version, licence in rows]
    files = [(f"{SITE}/{number}.dist-info/METADATA", text.encode()) for number, text in enumerate(texts)]
    text = sbom.text(inventory.read(files), IMAGE)
    assert sbom.text(inventory.read(reversed(files)), IMAGE) == text


@given(st.text())
def test_any_lock_is_read(text):
    inventory.locked(text)


def test_what_is_lacking_is_told_before_the_build(tmp_path, monkeypatch):
    sbom.check(tmp_path / "bill.json")
    with pytest.raises(ConfigError, match="no folder"):
        sbom.check(tmp_path / "none" / "bill.json")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"cpr-kit\[sbom\]"):
        sbom.check(tmp_path / "bill.json")


@pytest.mark.engine
def test_an_image_of_anyones_has_a_bill(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY root/ /\n")
    for path, text in FILES.items():
        file = tmp_path / "root" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    engine = DockerEngine()
    tag = "cpr-kit-tests/sbom:1"
    with pytest.raises(LackingError, match=tag):
        sbom.write(tmp_path / "bill.json", engine, tag)
    engine.build(Build(context=tmp_path, tag=tag), lambda _: None)
    try:
        count = sbom.write(tmp_path / "bill.json", engine, tag)
        sbom.write(tmp_path / "again.json", engine, tag)
    finally:
        engine.remove_image(tag)
    bill = json.loads((tmp_path / "bill.json").read_text("utf-8"))
    purls = [part.get("purl", "") for part in bill["components"]]
    assert len(purls) == count
    assert json.loads(sbom.text(found(), IMAGE))["components"] == bill["components"]
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "bill.json").read_bytes()
