"""What is written is read back as it was meant, whatever the names are."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.config import CheckSection, Config, ImageSection, ModelSection
from cpr_kit.migrate import settings

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
models = st.builds(
    ModelSection,
    predictor=texts, preprocessor=st.none() | texts, handler=st.none() | texts, artifacts=st.none() | texts,
    requirements=st.none() | texts, extra_packages=st.lists(texts).map(tuple), trusted=st.booleans(),
)  # fmt: skip
images = st.builds(
    ImageSection,
    platform=st.sampled_from(["linux/amd64", "linux/arm64"]),
    name=st.none() | texts,
    base=texts,
    dockerfile=st.none() | texts,
)
checks = st.lists(st.builds(CheckSection, request=texts, expect=st.none() | texts, content_type=texts)).map(tuple)


@given(models, images, checks, st.dictionaries(st.sampled_from(["predictor", "base", "name", "trusted"]), st.text()))
def test_every_value_comes_back(tmp_path_factory, model, image, checks, reasons):
    folder = tmp_path_factory.mktemp("p")
    config = Config(folder=folder, model=model, image=image, checks=checks)

    (folder / "cpr.toml").write_text(settings.text(config, reasons), "utf-8")

    assert Config.read(folder, environ={}) == config


def test_what_is_the_default_and_has_no_reason_is_not_written():
    config = Config(folder=Path(), model=ModelSection(predictor="a:B"), image=ImageSection())
    assert settings.text(config, {}) == '[model]\npredictor = "a:B"\n'
    stated = replace(config, image=ImageSection())
    assert 'base = "python:3.11-slim"  # said\n' in settings.text(stated, {"base": "said"})
