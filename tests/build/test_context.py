import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from cpr_kit.build import context, wheel
from cpr_kit.build.ignore import Ignore
from cpr_kit.build.source import Source
from cpr_kit.config import Config, ImageSection, ModelSection
from cpr_kit.errors import SourceError
from cpr_kit.version import __version__

FOLDERS = Path(__file__).parent / "folders"


@pytest.fixture
def project(tmp_path):
    return shutil.copytree(FOLDERS / "good", tmp_path / "project")


@pytest.fixture
def made(tmp_path):
    (tmp_path / "made").mkdir()
    return tmp_path / "made"


def source(project, image=None, **model):
    image = ImageSection(**(image or {}))
    return Source.read(Config(folder=project, image=image, model=ModelSection(predictor="predictor:Doubler", **model)))


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def state(folder):
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}


def test_lays_out_what_the_engines_read(project, made):
    arguments = context.make(source(project, image={"env": {"A": "x", "B": "$(A)"}, "ports": (9000,)}), made)
    image = json.loads((made / "image.json").read_text())
    assert image == {
        "kit": next(made.glob("kit/*.whl")).relative_to(made).as_posix(),
        "dependencies": [*wheel.requirements(), "fastapi"],
        "requirements": None,  # the file is there, and asks for nothing
        "lock": None,
        "extra_packages": [],
        "code": "code",
        "env": {"CPR_MODEL_TRUSTED": "false", "PREDICTOR_MODULE": "predictor", "PREDICTOR_CLASS": "Doubler", "A": "x"},
        "entrypoint": ["python", "-m", "cpr_kit.runtime"],
        "ports": [9000],
    }
    assert tree(made / "code") == {"cpr.toml", "predictor.py"}
    assert (made / "index" / "pip.conf").is_file()
    assert (made / "packages" / ".keep").is_file()
    lines = (made / "Dockerfile").read_text().split('\nENV A="x"\n')[1].splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        "LABEL org.opencontainers.image.base.name",
        "LABEL cpr-kit.version",
        "LABEL cpr-kit.source",
    ]
    assert arguments["PREDICTOR_CLASS"] == "Doubler"


def test_nothing_is_written_into_the_users_folder(project, made):
    before = state(project)
    context.make(source(project), made)
    assert state(project) == before


def test_the_requirements_file_is_there_even_when_the_user_has_none(project, made):
    (project / "requirements.txt").unlink()
    context.make(source(project), made)
    assert (made / "requirements" / "requirements.txt").read_text() == ""
    assert json.loads((made / "image.json").read_text())["requirements"] is None


def test_leaves_out_what_dockerignore_names_and_what_never_belongs_in(project, made):
    for name in [".git/HEAD", "__pycache__/p.pyc", "env/pyvenv.cfg", "env/x.py", "model/m.joblib", "data/a.csv", "data/b.csv", "deep/model/x", "[m]/x"]:  # fmt: skip
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    (project / ".dockerignore").write_text("data\n!data/b.csv\n!model\n")
    context.make(source(project, artifacts="./model/"), made)
    assert tree(made / "code") == {
        "cpr.toml", "predictor.py", ".dockerignore", "data", "data/b.csv", "deep", "deep/model", "deep/model/x", "[m]", "[m]/x",
    }  # fmt: skip


def test_artifacts_with_special_characters_leave_out_themselves_only(project, made):
    for name in ("[m]", "m"):
        (project / name).mkdir()
        (project / name / "x").touch()
    context.make(source(project, artifacts="[m]"), made)
    assert (made / "code" / "m" / "x").exists()
    assert not (made / "code" / "[m]").exists()


def test_modes_are_plain_whatever_they_were(project, made):
    (project / "predictor.py").chmod(0o600)
    (project / "start.sh").touch(0o700)
    (project / "deep").mkdir(0o700)
    (project / "deep" / "x").touch()
    old = os.umask(0o077)
    try:
        context.make(source(project), made)
    finally:
        os.umask(old)
    expected = {"predictor.py": 0o644, "cpr.toml": 0o644, "start.sh": 0o755, "deep": 0o755, ".": 0o755}
    assert {name: (made / "code" / name).stat().st_mode & 0o777 for name in expected} == expected


def test_the_context_is_the_same_whatever_the_times_and_modes_of_the_files(project, made, tmp_path):
    context.make(source(project), made)
    os.utime(project / "predictor.py", (1, 1))
    (project / "predictor.py").chmod(0o640)
    (tmp_path / "again").mkdir()
    context.make(source(project), tmp_path / "again")
    assert tree(made) == tree(tmp_path / "again")
    assert all(
        p.read_bytes() == (tmp_path / "again" / p.relative_to(made)).read_bytes()
        for p in made.rglob("*")
        if p.is_file()
    )


def test_links_within_the_folder_stay_links(project, made):
    (project / "deep").mkdir()
    (project / "deep" / "relative.py").symlink_to("../predictor.py")
    (project / "absolute.py").symlink_to(project / "deep" / "relative.py")
    (project / "deep" / "up").symlink_to("..")
    context.make(source(project), made)
    code = made / "code"
    assert os.readlink(code / "deep" / "relative.py") == "../predictor.py"
    assert os.readlink(code / "absolute.py") == "predictor.py"
    assert (code / "deep" / "up").resolve() == code


@pytest.mark.parametrize(
    ("target", "message"),
    [("/etc/hostname", "outside the folder"), ("../made", "outside the folder"), ("nowhere", "leads nowhere"), ("link", "leads nowhere")],
)  # fmt: skip
def test_links_that_leave_the_folder_or_lead_nowhere_are_refused(project, made, target, message):
    (project / "link").symlink_to(target)
    with pytest.raises(SourceError, match=f"project/link: .*{message}"):
        context.make(source(project), made)
    (project / ".dockerignore").write_text("link")
    context.copy(project, made / "again", Ignore.read(project))


def test_a_pipe_is_refused(project, made):
    os.mkfifo(project / "pipe")
    with pytest.raises(SourceError, match="project/pipe: is neither a file nor a folder"):
        context.make(source(project), made)


def test_an_unreadable_file_is_named():
    """As another user where this one may read everything."""
    folder = Path(tempfile.mkdtemp())
    secret = folder / "from" / "secret.txt"
    secret.parent.mkdir()
    secret.touch(0o000)
    for path in (folder, secret.parent):
        path.chmod(0o777)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(
            SourceError, match=r"secret\.txt: cannot be read \(Permission denied\); name it in \.dockerignore"
        ):
            context.copy(folder / "from", folder / "to", Ignore((), ()))
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_extra_packages_travel_as_they_are(project, made, tmp_path):
    words = tmp_path / "words"
    (words / "__pycache__").mkdir(parents=True)
    (words / "pyproject.toml").touch()
    (tmp_path / "more-1.0.tar.gz").touch()
    context.make(source(project, extra_packages=("../words", "../more-1.0.tar.gz")), made)
    assert json.loads((made / "image.json").read_text())["extra_packages"] == [
        "packages/words",
        "packages/more-1.0.tar.gz",
    ]
    assert tree(made / "packages") == {".keep", "words", "words/pyproject.toml", "more-1.0.tar.gz"}


def test_two_extra_packages_of_one_name_are_refused(project, made):
    for name in ("a/words.whl", "b/words.whl"):
        (project / name).parent.mkdir()
        (project / name).touch()
    with pytest.raises(SourceError, match="two extra packages are named words.whl"):
        context.make(source(project, extra_packages=("a/words.whl", "b/words.whl")), made)


def test_a_users_own_dockerfile_gets_the_folder_as_its_context(made):
    """Its .dockerignore is spent then: the file below is the one that the engine builds by."""
    folder = shutil.copytree(FOLDERS / "own_dockerfile", made.parent / "own")
    (folder / ".dockerignore").write_text("Dockerfile\nleft.out\n")
    (folder / "left.out").touch()
    config = Config.read(folder, environ={})
    assert context.make(Source.read(config), made) == {}
    assert tree(made) == {"Dockerfile", "cpr.toml", "docker", "docker/serving.Dockerfile", "entry.py", "model.txt"}
    assert (made / "Dockerfile").read_text() == (made / "docker" / "serving.Dockerfile").read_text()


def test_a_users_own_dockerfile_that_copies_from_dot_cpr_finds_the_kit_there(made):
    folder = shutil.copytree(FOLDERS / "own_dockerfile", made.parent / "own")
    with (folder / "docker" / "serving.Dockerfile").open("a") as dockerfile:
        dockerfile.write("COPY .cpr/ /tmp/kit/\nRUN pip install /tmp/kit/*.whl\n")
    (folder / ".cpr").mkdir()
    (folder / ".cpr" / "of-the-user").touch()

    context.make(Source.read(Config.read(folder, environ={})), made)

    assert tree(made / ".cpr") == {f"cpr_kit-{__version__}-py3-none-any.whl"}
    assert tree(folder / ".cpr") == {"of-the-user"}


def test_the_requirements_file_stays_out_of_the_image_and_in_a_dockerfile_of_the_users_own(project, made, tmp_path):
    (project / "requirements.txt").write_text("--trusted-host secret.example\n")
    context.make(source(project, requirements="requirements.txt"), made)
    assert "code/requirements.txt" not in tree(made)

    (project / "Dockerfile").write_text("FROM python:3.11-slim\n")
    (tmp_path / "own").mkdir()
    context.make(source(project, {"dockerfile": "Dockerfile"}, requirements="requirements.txt"), tmp_path / "own")
    assert any(name.endswith("requirements.txt") for name in tree(tmp_path / "own"))


def test_included_requirements_stay_out_of_the_code_too(project, made):
    """Each may name an index with its password."""
    (project / "req").mkdir()
    (project / "requirements.txt").write_text("-r req/base.txt\n")
    (project / "req" / "base.txt").write_text("-r more.txt\nidna\n")
    (project / "req" / "more.txt").write_text("--extra-index-url https://user:secret@packages.example/simple\n")
    context.make(source(project), made)
    assert "secret" in (made / "requirements" / "requirements.txt").read_text()
    assert not [path for path in (made / "code").rglob("*") if path.is_file() and "secret" in path.read_text()]
