"""cpr.toml in an image: what makes the image is there, and what is said of its deployment makes no other one."""

import shutil
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.build import context, settings, state
from cpr_kit.build.source import Source
from cpr_kit.config import Config, ImageSection, ModelSection, ServeSection
from cpr_kit.engine.manifest import tree_digest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDERS = Path(__file__).parent / "folders"
MADE_BY = {"model": {"predictor": "predictor:Doubler"}, "image": {"base": "python:3.12-slim", "env": {"A": "x"}}}
ELSEWHERE = {
    "model": {"artifacts": "gs://bucket/model"},
    "image": {"name": "us-docker.pkg.dev/p/r/n:1", "predict_route": "/p", "health_route": "/h", "shared_memory_mb": 64},
    "deploy": {
        "project": "p",
        "regions": ["us-central1"],
        "endpoint": "e",
        "kind": "dedicated",
        "machine_type": "n1-standard-4",
        "min_replicas": 2,
        "env": {"B": "y"},
        "autoscaling": {"cpu": 70},
        "startup_probe": {"tcp": True, "period_s": 5},
        "canary": 10,
    },
    "check": [{"request": "one.json"}, {"request": "two.json", "expect": "three.json"}],
}
"""All that is no part of an image; the keys of [deploy] stand for its others."""
OF_ITS_OWN = {"dockerfile", "command", "args"}
"""Keys of images that have no copy of the folder made by the kit."""
IN_IMAGE = {
    "model": {
        "predictor": "other:Other",
        "preprocessor": "other:Scaler",
        "handler": "other:Handler",
        "app": "main:app",
        "requirements": "needs.txt",
        "extra_packages": ["../words"],
        "trusted": True,
        "trusted_digests": [f"sha256:{'0' * 64}"],
    },
    "image": {
        "base": "python:3.10-slim",
        "template": "cuda",
        "platform": "linux/arm64",
        "env": {"A": "y"},
        "ports": [9000],
        "bake": "model",
        "sdk": True,
    },
    "serve": {
        "workers": 2,
        "max_batch_rows": 8,
        "max_batch_delay": 0.5,
        "request_timeout": 30,
        "max_queue": 9,
        "endpoint_kind": "dedicated",
        "max_body": 1000,
        "warmup": ["one.json"],
        "metrics": True,
        "log_format": "text",
    },
}


def toml(table):
    """The same text as a person writes: with comments, and the sections as they come."""
    blocks = []
    for name, section in table.items():
        for row in section if isinstance(section, list) else [section]:
            head = f"[[{name}]]" if isinstance(section, list) else f"[{name}]"
            blocks.append(
                "\n".join([head, *(f"{key} = {settings.written(value)}  # so" for key, value in row.items())])
            )
    return "\n\n".join(blocks) + "\n"


def merged(*tables):
    names = {name: None for table in tables for name in table}
    return {
        name: next((table[name] for table in tables if isinstance(table.get(name), list)), None)
        or {key: value for table in tables for key, value in table.get(name, {}).items()}
        for name in names
    }


@pytest.fixture
def folder(tmp_path):
    made = shutil.copytree(FOLDERS / "good", tmp_path / "project")
    (made / "cpr.toml").write_text(toml(MADE_BY))
    return made


def made(folder, name):
    """All that an engine builds from, and the arguments."""
    context_folder = folder.parent / name
    context_folder.mkdir()
    arguments = context.make(Source.read(Config.read(folder, environ={})), context_folder)
    return tree_digest(context_folder), arguments


def test_what_is_said_of_the_deployment_alone_makes_the_same_image(folder):
    before = made(folder, "before")
    (folder / "cpr.toml").write_text("# moved\n" + toml(merged(ELSEWHERE, dict(reversed(MADE_BY.items())))))
    assert made(folder, "after") == before


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, keys in IN_IMAGE.items() for key in keys])
def test_every_other_key_makes_another_one(folder, section, key):
    edited = merged(MADE_BY, {section: {key: IN_IMAGE[section][key]}})
    assert settings.text(edited) != settings.text(MADE_BY)
    (folder / "cpr.toml").write_text(toml(edited))
    Config.read(folder, environ={})  # what stands for the key is a value of it


def test_a_new_key_is_in_the_image_or_named_as_one_that_is_not():
    for name, cls in (("model", ModelSection), ("image", ImageSection), ("serve", ServeSection)):
        own = OF_ITS_OWN if name == "image" else set()
        assert {each.name for each in fields(cls)} == {*IN_IMAGE[name], *ELSEWHERE.get(name, ()), *own}


VALUES = st.recursive(
    st.text() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["base", "env", "ports", "name", "artifacts", "workers", "predict_route"])
TABLES = st.dictionaries(
    st.sampled_from(["model", "image", "serve", "deploy"]), st.dictionaries(KEYS, VALUES, max_size=4)
)


@given(TABLES)
def test_what_is_kept_is_read_as_it_was_written(table):
    read = tomllib.loads(settings.text(table))
    kept = {
        name: {key: value for key, value in section.items() if key not in ELSEWHERE.get(name, ())}
        for name, section in table.items()
        if name != "deploy"
    }
    assert read == {name: section for name, section in kept.items() if section}
    assert settings.text(read) == settings.text(table)


def test_a_cpr_toml_that_says_nothing_of_the_image_is_in_none(folder):
    (folder / "cpr.toml").write_text(toml(ELSEWHERE))
    config = Config.read(folder, environ={"CPR_MODEL_PREDICTOR": "predictor:Doubler"})
    (folder.parent / "made").mkdir()
    code = context.code(Source.read(config), folder.parent / "made")
    assert {path.name for path in code.iterdir()} == {"predictor.py"}


def test_it_is_a_plain_file_whatever_it_was(folder, tmp_path):
    before = state.read(Config.read(folder, environ={})).digest
    (folder / "cpr.toml").chmod(0o700)
    assert state.read(Config.read(folder, environ={})).digest == before
    (folder / "cpr.toml").rename(folder / "mine.toml")
    (folder / "cpr.toml").symlink_to("mine.toml")
    code = context.code(Source.read(Config.read(folder, environ={})), tmp_path)
    assert not (code / "cpr.toml").is_symlink()
    assert (code / "cpr.toml").read_text() == settings.text(MADE_BY)


def test_a_dockerignore_that_leaves_it_out_is_kept_to(folder, tmp_path):
    (folder / ".dockerignore").write_text("cpr.toml\n")
    assert not (context.code(Source.read(Config.read(folder, environ={})), tmp_path) / "cpr.toml").exists()


def test_a_dockerfile_of_one_s_own_copies_it_as_it_is(folder):
    (folder / "Dockerfile").write_text("FROM a:1\nCOPY cpr.toml /\n")
    (folder / "cpr.toml").write_text(toml(merged(ELSEWHERE, {"image": {"dockerfile": "Dockerfile"}})))
    made(folder, "made")
    assert (folder.parent / "made" / "cpr.toml").read_text() == (folder / "cpr.toml").read_text()
