import contextlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from cpr_kit.build import image
from cpr_kit.config import Config, ImageSection, ModelSection
from cpr_kit.contract import ContainerSpec
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.protocol import Build
from cpr_kit.errors import BuildError, ConfigError, SourceError
from cpr_kit.version import __version__

FOLDERS = Path(__file__).parent / "folders"
MARKER = "index-of-this-machine.invalid"
NASTY = {
    "QUOTES": """a "b" 'c' `d` \\""",
    "DOLLARS": "$HOME ${PATH} $$ \\$x $(",
    "SPACES": "  a  b\t ",
    "EQUALS": "a=b c=d",
    "HASH": "# no comment",
    "BACKSLASHES": "\\ \\\\ \\n a\\",
    "LETTERS": "é 模型 \x1b \u2028 \x0b \x85",
    "EMPTY": "",
    "LATER": "$(AIP_HTTP_PORT)",
}


class Recorder:
    """An engine that is not to be asked, or that keeps what it was asked for."""

    name = "recorder"

    def __init__(self):
        self.builds = []

    def build(self, build, output):
        self.builds.append((build, sorted(path.name for path in build.context.iterdir())))


def test_a_fault_is_refused_before_the_engine_is_asked():
    engine = Recorder()
    with pytest.raises(SourceError, match="no class"):
        image.build(Config.read(FOLDERS / "misspelled_class", environ={}), engine)
    with pytest.raises(ConfigError, match='write "iris"'):
        image.build(Config.read(FOLDERS / "good", environ={}), engine, tag="Iris")
    assert engine.builds == []


def test_the_specification_names_routes_ports_and_environment():
    config = Config(
        folder=FOLDERS / "good",
        model=ModelSection(predictor="predictor:Doubler"),
        image=ImageSection(name="serving/iris:3", ports=(9000,), env={"A": "$(AIP_HTTP_PORT)"}, platform="linux/amd64"),
    )
    engine = Recorder()
    spec = image.build(config, engine, no_cache=True)
    assert spec == ContainerSpec(
        image_uri="serving/iris:3",
        predict_route="/predict",
        health_route="/health",
        ports=(9000,),
        env={"A": "$(AIP_HTTP_PORT)"},
    )
    build, names = engine.builds[0]
    assert (build.tag, build.no_cache, build.platform) == ("serving/iris:3", True, "linux/amd64")
    assert names == ["Dockerfile", "code", "image.json", "index", "kit", "packages", "requirements", "template"]
    assert not build.context.exists()


def test_the_folders_name_is_the_images_unless_named():
    assert image.build(Config.read(FOLDERS / "in_a_package", environ={}), Recorder()).image_uri == "in-a-package:latest"


def test_warnings_go_to_the_output():
    lines = []
    image.build(Config.read(FOLDERS / "imports_unmet", environ={}), Recorder(), output=lines.append)
    assert [line.split(":")[0] for line in lines] == ["warning"] * 3


@pytest.fixture(scope="module")
def docker():
    import docker

    with contextlib.closing(docker.from_env()) as client:
        yield client


@pytest.fixture(scope="module", params=["buildkit", "classic"])
def engine(request):
    try:
        return DockerEngine(builder=request.param)
    except ConfigError as lack:
        pytest.skip(str(lack))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return shutil.copytree(FOLDERS / "good", tmp_path_factory.mktemp("build") / "doubler")


@contextlib.contextmanager
def same_index():
    """Settings of a package index and a proxy that the image must not know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_TRUSTED_HOST", MARKER)
        patch.setenv("NO_PROXY", MARKER)
        yield


@pytest.fixture(scope="module")
def built(engine, project, docker):
    """The image of the sound folder with an awkward environment, and the lines of its build."""
    config = Config(
        folder=project,
        model=ModelSection(predictor="predictor:Doubler", trusted=True),
        image=ImageSection(env=NASTY, ports=(8080, 9000)),
    )
    (project / "predictor.py").chmod(0o600)
    lines = []
    tag = f"cpr-test/build-{engine._builder}:1"
    with same_index():
        image.build(config, engine, tag=tag, output=lines.append)
    yield config, tag, lines
    engine.remove_image(tag)


def run(docker, tag, *command, **options):
    options = {"remove": True, "entrypoint": list(command), "stderr": True, **options}
    return docker.containers.run(tag, **options).decode()


def python(docker, tag, code, **options):
    return run(docker, tag, "python", "-c", code, **options).strip()


def layers(docker, reference):
    """The names of the files of each layer, the lowest first, and all the bytes of the image."""
    archive = io.BytesIO(b"".join(docker.images.get(reference).save()))
    with tarfile.open(fileobj=archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))[0]
        found = []
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                found.append({member.name.removeprefix("./") for member in inner})
    return found, archive.getvalue()


@pytest.mark.engine
def test_the_image_has_the_running_kit_and_starts_it_as_nobody(built, engine, docker):
    _, tag, _ = built
    code = "import cpr_kit, fastapi, os, predictor; print(cpr_kit.__version__, os.getuid(), os.getcwd(), os.environ['HOME'])"
    assert python(docker, tag, code, read_only=True) == f"{__version__} 65534 /usr/app /home"
    made = engine.image(tag)
    assert made.entrypoint == ("python", "-m", "cpr_kit.runtime")
    assert made.command == ()
    assert set(made.ports) == {8080, 9000}
    assert docker.images.get(tag).attrs["Config"]["User"] == "65534:65534"


@pytest.mark.engine
def test_the_environment_arrives_exactly(built, engine, docker):
    _, tag, _ = built
    env = json.loads(python(docker, tag, "import json, os; print(json.dumps(dict(os.environ)))"))
    assert {name: env[name] for name in NASTY if name != "LATER"} == {n: v for n, v in NASTY.items() if n != "LATER"}
    assert "LATER" not in env
    assert (env["PREDICTOR_MODULE"], env["PREDICTOR_CLASS"], env["HANDLER_CLASS"]) == ("predictor", "Doubler", "")
    assert env["CPR_MODEL_TRUSTED"] == "true"


@pytest.mark.engine
def test_bytecode_is_there_and_valid(built, docker):
    """A module whose bytecode cannot be used would be compiled again at each start."""
    _, tag, _ = built
    code = """
import importlib.util, starlette.applications as module
cached = open(importlib.util.cache_from_source(module.__file__), "rb").read()
print(int.from_bytes(cached[4:8], "little"), cached[8:16] == importlib.util.source_hash(open(module.__file__, "rb").read()))
"""
    assert python(docker, tag, code) == "1 True"  # 1: by its source's hash, and never compared with it


@pytest.mark.engine
def test_predictors_may_write_where_they_stand_but_not_over_the_code(built, docker):
    _, tag, _ = built
    code = """
open("model.joblib", "w").close(); open("/home/x", "w").close()
for change in (lambda: open("predictor.py", "a"), lambda: __import__("os").replace("model.joblib", "predictor.py")):
    try:
        change()
    except PermissionError:
        print("refused")
"""
    assert python(docker, tag, code) == "refused\nrefused"


@pytest.mark.engine
def test_nothing_of_the_index_the_wheels_or_a_cache_is_in_the_image(built, docker):
    _, tag, _ = built
    files, content = layers(docker, tag)
    below = len(docker.images.get("python:3.11-slim").attrs["RootFS"]["Layers"])
    names = set().union(*files[below:])
    assert not [
        n for n in names if n.startswith(("index/", "build/")) or n.endswith((".whl", "ca.pem")) or ".cache/pip" in n
    ]
    assert "usr/app/predictor.py" in files[-1]
    assert "opt/kit/cpr_kit" in files[-2]
    assert "opt/cpr/bin" in files[-3]
    assert not [n for n in names if n.endswith("/tests") or n.startswith("image/") or "opt/uv" in n]
    assert MARKER.encode() not in content
    assert MARKER not in json.dumps([docker.images.get(tag).attrs, docker.images.get(tag).history()])


def installed(lines):
    """What a build says of packages that it installed, and did not take from an engine's cache."""
    return [line for line in lines if "Installed " in line or "Prepared " in line or "Successfully installed" in line]


@pytest.mark.engine
def test_an_edit_of_the_code_installs_nothing(built, engine, project, docker):
    config, tag, _ = built
    below = docker.images.get(tag).attrs["RootFS"]["Layers"]
    text = (FOLDERS / "good" / "predictor.py").read_text()
    (project / "predictor.py").write_text(text.replace("= 2", f"= {len(engine._builder)}"))
    lines = []
    with same_index():
        image.build(config, engine, tag=tag, output=lines.append)
    assert not installed(lines)
    above = docker.images.get(tag).attrs["RootFS"]["Layers"]
    assert above[-3:-1] == below[-3:-1], (
        "dependencies and kit; BuildKit may take the empty ones below from another build"
    )
    assert above[-1] != below[-1]
    code = "from predictor import Doubler; d = Doubler(); d.load(''); print(d.predict({'instances': [2]}))"
    assert python(docker, tag, code) == f"{{'predictions': [{2 * len(engine._builder)}]}}"


@pytest.mark.engine
def test_the_same_tree_gives_the_same_layers(built, engine, project, docker):
    """Dependencies, kit and code, bytecode included; what lies below them is the engine's and the base's.

    The first may be made of the layers that `built` has just made; older ones have what an index had on another day.
    """
    _, _, lines = built
    text = (project / "cpr.toml").read_text()
    found = []
    for number, no_cache in ((1, not installed(lines)), (2, True)):
        tag = f"cpr-test/same-{engine._builder}:{number}"
        spec = image.build(Config.read(project), engine, tag=tag, no_cache=no_cache)
        found.append(docker.images.get(spec.image_uri).attrs)
        (project / "cpr.toml").write_text(f"{text}\n[deploy]\nmin_replicas = 2\n")  # no part of an image
    (project / "cpr.toml").write_text(text)
    for attrs in found:
        docker.images.remove(attrs["RepoTags"][0], force=True)
    assert found[0]["RootFS"]["Layers"][-3:] == found[1]["RootFS"]["Layers"][-3:]
    settings = ("Env", "Labels", "Entrypoint", "User", "WorkingDir", "ExposedPorts")
    assert [found[0]["Config"][name] for name in settings] == [found[1]["Config"][name] for name in settings]


@pytest.mark.engine
def test_a_users_own_dockerfile_is_built(engine, docker):
    config = Config.read(FOLDERS / "own_dockerfile", environ={})
    spec = image.build(config, engine, tag=f"cpr-test/own-{engine._builder}:1")
    try:
        assert docker.containers.run(spec.image_uri, remove=True).decode() == "entered\n"
    finally:
        engine.remove_image(spec.image_uri)


@pytest.fixture(scope="module")
def buildkit():
    try:
        return DockerEngine(builder="buildkit")
    except ConfigError:
        return DockerEngine()


@contextlib.contextmanager
def base_made_by(engine, folder, *instructions, base="python:3.11-slim"):
    """An image for a template to start from."""
    (folder / "Dockerfile").write_text("\n".join([f"FROM {base}", *instructions]))
    tag = "cpr-test/odd-base:1"
    engine.build(Build(context=folder, tag=tag), print)
    try:
        yield tag
    finally:
        engine.remove_image(tag)


def words(folder):
    """A package that needs nothing, as a folder of its source."""
    (folder / "words").mkdir()
    (folder / "words" / "pyproject.toml").write_text('[project]\nname = "words"\nversion = "1.0"\n')
    (folder / "words" / "words.py").write_text("SAID = 'hello'\n")
    return str(folder / "words")


@pytest.mark.engine
def test_starts_from_the_kits_own_base_and_installs_the_running_kit_over_it(buildkit, project, docker, tmp_path):
    base = image.build_base(buildkit, tag="cpr-test/base:1").reference
    try:
        entry = docker.images.get(base).attrs["Config"]
        assert (entry["User"], entry["Entrypoint"]) == ("65534:65534", ["python", "-m", "cpr_kit.runtime"])
        assert (
            python(docker, base, "import cpr_kit, fastapi; print(cpr_kit.__version__)", read_only=True) == __version__
        )
        config = Config(
            folder=project,
            model=ModelSection(predictor="predictor:Doubler", extra_packages=(words(tmp_path),)),
            image=ImageSection(base=base),
        )
        spec = image.build(config, buildkit, tag="cpr-test/over-base:1")
        try:
            code = "import cpr_kit, starlette, words; print(cpr_kit.__file__, starlette.__file__, words.SAID)"
            kit, starlette, said = python(docker, spec.image_uri, code).split()
            assert kit.startswith("/opt/kit/")
            assert starlette.startswith("/opt/venv/"), "what the base has is not installed again"
            assert said == "hello"
        finally:
            buildkit.remove_image(spec.image_uri)
    finally:
        buildkit.remove_image(base)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("rm -f $(command -v python3) $(command -v python); ! command -v python3", "has no python on its PATH"),
        ("printf '#!/bin/sh\\n[ \"$1\" = --version ] && echo Python 3.8.1; exit 1' > /old && chmod 755 /old && mv /old $(command -v python3)", "has Python 3.8.1; Python 3.10 or newer is needed"),
        ("p=$(python3 -c 'import pip; print(*pip.__path__)'); e=$(python3 -c 'import ensurepip; print(*ensurepip.__path__)'); rm -r $p $e", "has neither pip nor ensurepip"),
    ],
)  # fmt: skip
def test_a_base_that_cannot_serve_is_told_so(buildkit, project, tmp_path, spoil, message):
    with base_made_by(buildkit, tmp_path, f"RUN {spoil}") as base:
        config = Config(
            folder=project, model=ModelSection(predictor="predictor:Doubler"), image=ImageSection(base=base)
        )
        with pytest.raises(BuildError, match=message):
            image.build(config, buildkit, tag="cpr-test/never:1")


@pytest.mark.engine
def test_requirements_that_contradict_the_kits_own_are_refused_by_pip(buildkit, project):
    shutil.copytree(project, project.parent / "old", dirs_exist_ok=True)
    (project.parent / "old" / "requirements.txt").write_text("starlette<0.40\n")
    config = Config(folder=project.parent / "old", model=ModelSection(predictor="predictor:Doubler"))
    with pytest.raises(BuildError, match="starlette"):
        image.build(config, buildkit, tag="cpr-test/never:1")


@pytest.mark.engine
def test_what_a_bases_virtual_environment_has_stays_visible_and_pip_may_be_missing(buildkit, project, docker, tmp_path):
    spoil = "rm -r $(python3 -c 'import pip; print(*pip.__path__)')*"
    module = "echo SAID=1 > $(/app/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))')/in_the_base.py"
    instructions = (
        f"RUN python3 -m venv --without-pip /app/venv && {module} && {spoil}",
        "ENV PATH=/app/venv/bin:$PATH",
    )
    with base_made_by(buildkit, tmp_path, *instructions) as base:
        config = Config(
            folder=project, model=ModelSection(predictor="predictor:Doubler"), image=ImageSection(base=base)
        )
        spec = image.build(config, buildkit, tag="cpr-test/over-venv:1")
        try:
            code = "import cpr_kit, in_the_base, sys; print(in_the_base.SAID, sys.prefix)"
            assert python(docker, spec.image_uri, code) == "1 /opt/cpr"
        finally:
            buildkit.remove_image(spec.image_uri)
