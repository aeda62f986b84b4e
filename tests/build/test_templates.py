"""What cpr.toml may say for each template, and that nothing it says becomes an instruction."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpr_kit import serving_spec as spec
from cpr_kit.build import context, eject, rules, template
from cpr_kit.build.source import Source
from cpr_kit.config import Config, ImageSection, ModelSection, ServeSection
from cpr_kit.contract import ContainerSpec, Reference
from cpr_kit.engine.protocol import Image
from cpr_kit.errors import ConfigError, SourceError, SpecError

WITH_KIT = ("python", "cuda", "prebuilt", "fastapi")
ALL = (*WITH_KIT, "foreign")
TEXT = st.text(st.characters(exclude_categories=[]), max_size=30)
NASTY = st.one_of(
    TEXT,
    st.sampled_from(
        ["a\nUSER root", "a\\\nRUN x", "$HOME", '"]\nRUN x', "a b", "a # b", "\\", "$(AIP_HTTP_PORT)", "<<EOF"]
    ),
)


def instructions(text):
    """The instructions of a Dockerfile: its comments and empty lines left out, continued lines joined."""
    found, held = [], ""
    for line in text.split("\n"):
        if re.match(r"\s*#", line) or not line.strip():
            continue
        held += line
        if held.endswith("\\"):
            held = held[:-1]
            continue
        found.append(held.strip().partition(" ")[0].upper())
        held = ""
    assert not held, "the last instruction never ends"
    return found


def config(folder=Path("project"), **sections):
    return Config(folder=folder, **sections)


def test_there_are_five():
    assert set(ALL) == {path.parent.name for path in template.folder().glob("*/Dockerfile")}


@pytest.mark.parametrize("name", ALL)
def test_a_template_is_a_dockerfile_for_every_builder(name):
    text = (template.find(name) / "Dockerfile").read_text()
    for word in ("--mount", "<<", "syntax=", "--link", "--chmod"):
        assert word not in text
    assert text.isascii()
    assert set(instructions(text)) <= {
        "ARG",
        "FROM",
        "USER",
        "SHELL",
        "WORKDIR",
        "ENV",
        "COPY",
        "RUN",
        "EXPOSE",
        "ENTRYPOINT",
        "CMD",
        "HEALTHCHECK",
        "STOPSIGNAL",
    }


OWN = re.compile(r"(ARG|FROM|#)|(ENV|   ) ?(HANDLER|PREDICTOR|PREPROCESSOR|CPR_MODEL)_")


@pytest.mark.parametrize("name", WITH_KIT)
def test_templates_with_the_kit_do_what_python_does_and_more(name):
    """So that one is not mended and the others forgotten: all of `python`'s lines are there, in their order."""
    lines = (template.find(name) / "Dockerfile").read_text().splitlines()
    at = 0
    for line in (template.find("python") / "Dockerfile").read_text().splitlines():
        if not OWN.match(line) and not (line == "USER 0:0" and name == "cuda"):
            assert line in lines[at:], line
            at = lines.index(line, at) + 1
    assert at == len(lines)


@pytest.mark.parametrize("name", WITH_KIT)
@pytest.mark.parametrize("kind", ["predictor", "app"])
def test_every_build_argument_is_one_of_the_templates(name, kind):
    given = Source(
        config=config(image=ImageSection(template=name), model=ModelSection(app="a:b" if kind == "app" else None)),
        **({"app": Reference("a", "b")} if kind == "app" else {"predictor": Reference("a", "B")}),
    )
    text, arguments = template.render(given)
    declared = {line.split()[1].partition("=")[0] for line in text.splitlines() if line.startswith("ARG ")}
    if not (name == "fastapi" and kind == "predictor"):  # which the rules refuse
        assert set(arguments) <= declared


@settings(max_examples=300)
@given(
    st.sampled_from(ALL),
    NASTY,
    st.lists(st.integers(1, 65535), min_size=1, max_size=3),
    st.dictionaries(st.from_regex(r"B[A-Z_0-9]{0,4}", fullmatch=True), NASTY, max_size=3),
    st.lists(NASTY, max_size=3),
    st.lists(NASTY, max_size=3),
    st.lists(NASTY, max_size=2),
    NASTY,
)
def test_no_field_adds_an_instruction(name, base, ports, env, command, args, warmup, app):
    """Whatever cpr.toml says: it is refused, or the instructions are the template's and those of the kit's own count."""
    try:
        serve = ServeSection(warmup=tuple(warmup))
        image = ImageSection(
            template=name, base=base, ports=tuple(ports), env=env, command=tuple(command), args=tuple(args)
        )
        given = config(image=image, serve=serve, model=ModelSection(app=app if name == "fastapi" else None))
        source = Source(config=given, predictor=Reference("a", "B"))
        rules_hold = _holds(given)
        text, arguments = template.render(source)
        text += template.labels(source, "0" * 64)
        ejected = eject.dockerfile(text, arguments, None if name == "foreign" else "entrypoint.py")
    except (ConfigError, SpecError):
        return
    chosen = instructions((template.find(rules.template(given)) / "Dockerfile").read_text())
    own = instructions(text)[len(chosen) :]
    assert instructions(text)[: len(chosen)] == chosen
    assert set(own) <= {"ENV", "LABEL", "ENTRYPOINT", "CMD"}
    assert len(own) <= len(template.baked(env)) + len(template.serving(given)) + 2 + 3
    if rules_hold:
        assert instructions(ejected) == instructions(text)
        assert all("\n" not in value and "$" not in value for value in arguments.values())
    for line in text.splitlines():
        if (
            line.startswith(("ENTRYPOINT [", "CMD ["))
            and line != 'ENTRYPOINT ["python", "-m", "cpr_kit.runtime"]'
            and line != "CMD []"
        ):
            assert json.loads(line.partition(" ")[2]) in (command, args)


def _holds(given):
    try:
        rules.check(given)
    except ConfigError:
        return False
    return True


@settings(max_examples=200)
@given(NASTY)
def test_a_base_that_is_no_image_is_refused(base):
    given = config(image=ImageSection(base=base))
    if re.fullmatch(r"[A-Za-z0-9][\w.:/@-]*", base, re.ASCII):
        rules.check(given)
    else:
        with pytest.raises(ConfigError, match="no name of an image"):
            rules.check(given)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"model": ModelSection(app="a:b", predictor="a:B", trusted=True)}, "app and predictor and trusted are both set"),
        ({"model": ModelSection(app="a:b"), "serve": ServeSection(max_batch_rows=4)}, "max_batch_rows is for predictors"),
        ({"image": ImageSection(template="fastapi"), "model": ModelSection(predictor="a:B")}, 'name it: \\[model\\] app = "module:name"'),
        ({"image": ImageSection(command=("a",), args=("b",))}, "command and args is for an image with a server of its own"),
        ({"image": ImageSection(template="foreign")}, 'base = "IMAGE"'),
        ({"image": ImageSection(template="foreign", base="a"), "model": ModelSection(app="a:b")}, r"\[model\] app has no effect"),
        ({"image": ImageSection(template="foreign", base="a"), "serve": ServeSection(workers=2)}, r"\[serve\] workers has no effect"),
    ],
)  # fmt: skip
def test_keys_that_exclude_each_other_are_refused(sections, words):
    with pytest.raises(ConfigError, match=words):
        rules.check(config(**sections))


def test_what_goes_together_does():
    for image in (
        ImageSection(),
        ImageSection(template="cuda"),
        ImageSection(template="fastapi"),
        ImageSection(template="prebuilt"),
    ):
        rules.check(config(image=image, model=ModelSection(app="a:b"), serve=ServeSection(workers=2, max_body=10)))
    rules.check(
        config(image=ImageSection(template="foreign", base="a", args=("x",)), model=ModelSection(artifacts="m"))
    )
    rules.check(
        config(image=ImageSection(dockerfile="Dockerfile", command=("a",)), model=ModelSection(predictor="a:B"))
    )


def test_an_application_gets_its_template_unless_another_is_named():
    app = ModelSection(app="a:b")
    assert rules.template(config(model=app)) == "fastapi"
    assert rules.template(config(model=app, image=ImageSection(template="cuda"))) == "cuda"
    assert rules.template(config()) == "python"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "main.py").write_text(
        "import os\nimport numpy, pandas\nfrom fastapi import FastAPI\napp: FastAPI = FastAPI()\n"
        "first, second = 1, 2\ndef make():\n    inside = 1\n    return app\nif True:\n    late = app\n"
    )
    return tmp_path


@pytest.mark.parametrize("name", ["app", "second", "make", "late", "FastAPI"])
def test_an_application_is_found_however_it_is_bound(project, name):
    source = Source.read(config(project, model=ModelSection(app=f"main:{name}")))
    assert source.app == Reference("main", name)
    assert template.environment(source) == {"CPR_MODEL_APP": f"main:{name}"}
    assert [warning for warning in source.warnings if "pandas" in warning]
    assert not [warning for warning in source.warnings if "numpy" in warning or "fastapi" in warning]


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("main:ap", r'main.py:4: there is no "ap" at the top level; it has os \(line 1\), .*; did you mean "app"\?'),
        ("main:inside", 'there is no "inside"'),
        ("mian:app", 'there is no module "mian"; the modules there are main'),
        ("main", 'an application is written "module:name"'),
        ("main:app\nRUN x", 'an application is written "module:name"'),
    ],
)
def test_an_application_that_is_not_there_is_named(project, app, words):
    with pytest.raises(SourceError, match=words):
        Source.read(config(project, model=ModelSection(app=app)))


def test_an_application_left_out_of_the_image_is_told(project):
    (project / ".dockerignore").write_text("main.py\n")
    with pytest.raises(SourceError, match="dockerignore leaves it out"):
        Source.read(config(project, model=ModelSection(app="main:app")))


def test_a_foreign_image_has_no_context_but_its_dockerfile(tmp_path):
    image = ImageSection(
        template="foreign",
        base="tensorflow/serving:2.19",
        command=("/usr/bin/server",),
        args=("--port=8501", 'a "b" $HOME'),
        env={"A": "1", "B": "$(AIP_HTTP_PORT)"},
    )
    made = tmp_path / "made"
    made.mkdir()
    assert context.make(Source.read(config(tmp_path, image=image)), made) == {"BASE_IMAGE": "tensorflow/serving:2.19"}
    assert [path.name for path in made.iterdir()] == ["Dockerfile"]
    lines = (made / "Dockerfile").read_text().splitlines()
    assert lines[lines.index("FROM ${BASE_IMAGE}") + 1 :][:3] == [
        'ENV A="1"',
        'ENTRYPOINT ["/usr/bin/server"]',
        'CMD ["--port=8501", "a \\"b\\" $HOME"]',
    ]


def test_a_start_that_only_a_container_can_know_stays_in_the_specification():
    image = ImageSection(template="foreign", base="a", command=("serve",), args=("--model=$(AIP_STORAGE_URI)",))
    assert template.started(image) == ""
    assert spec.of(config(image=image), "a:1") == ContainerSpec(
        image_uri="a:1", command=("serve",), args=("--model=$(AIP_STORAGE_URI)",), ports=(8080,)
    )


def test_the_specification_says_what_cpr_toml_says():
    image = ImageSection(predict_route="/p", health_route="/h", shared_memory_mb=64, ports=(9000,))
    assert spec.of(config(image=image), "a:1") == ContainerSpec(
        image_uri="a:1", predict_route="/p", health_route="/h", ports=(9000,), shared_memory_size_mb=64
    )


def completed(image, spec_=None, names_ports=False):
    start = spec_ or ContainerSpec(image_uri="a:1", ports=(8080,))
    return spec.completed(start, Image(reference="a:1", id="1", **image), names_ports=names_ports)


def test_an_image_says_its_port_where_nobody_else_does():
    assert completed({"ports": (9000,), "command": ("x",)}).ports == (9000,)
    assert completed({"ports": (9000,), "command": ("x",)}, names_ports=True).ports == (8080,)
    assert completed({"ports": (8500, 8080), "entrypoint": ("x",)}).ports == (8080,)
    assert completed({"ports": (), "entrypoint": ("x",)}).ports == (8080,)
    with pytest.raises(SpecError, match="exposes 8500, 8501; say which serves HTTP"):
        completed({"ports": (8501, 8500), "entrypoint": ("x",)})


def test_an_image_that_starts_nothing_is_told():
    with pytest.raises(SpecError, match="neither ENTRYPOINT nor CMD"):
        completed({})
    start = ContainerSpec(image_uri="a:1", command=("x",), ports=(8080,))
    assert completed({}, start) == start


def test_ports_count_as_named_when_anyone_names_them(tmp_path):
    assert not Config.read(tmp_path, environ={}).image.names_ports
    assert Config.read(tmp_path, environ={"CPR_IMAGE_PORTS": "8080"}).image.names_ports
    (tmp_path / "cpr.toml").write_text("[image]\nports = [8080]\n")
    read = Config.read(tmp_path, environ={})
    assert read.image.names_ports
    assert dataclasses.replace(read.image, base="a").names_ports
