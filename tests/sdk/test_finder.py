import subprocess
import sys
import venv
from pathlib import Path

import pytest

from cpr_kit.build import wheel
from cpr_kit.sdk import finder

TREE = Path(finder.__file__).parent / "aiplatform"


def package(folder, name, text="here = True"):
    """A module in a namespace package, as google-cloud-storage is installed."""
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder


def modules():
    for path in sorted(TREE.rglob("*.py")):
        parts = path.relative_to(TREE).with_suffix("").parts
        yield ".".join((finder.SDK, *(part for part in parts if part != "__init__")))


@pytest.mark.parametrize("name", [*modules()])
def test_every_module_has_what_it_lists(python, name):
    code = f"""
import importlib
module = importlib.import_module({name!r})
assert module.__name__ == {name!r}
for name in module.__all__:
    assert getattr(module, name) is not None
"""
    python(code)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*modules()])
def test_every_name_is_one_of_the_sdks(name):
    """But for ModelServer, which is of 2022."""
    import ast
    import importlib

    importlib.import_module("google.cloud.aiplatform")
    theirs = importlib.import_module(name)
    path = TREE.joinpath(*name.removeprefix(finder.SDK).strip(".").split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    listed = next(
        ast.literal_eval(node.value)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )

    submodules = {path.stem for path in Path(theirs.__file__).parent.iterdir()} if path.name == "__init__.py" else set()
    assert {each for each in listed if not hasattr(theirs, each)} - submodules <= {"ModelServer"}


@pytest.mark.parametrize(
    "statement",
    [
        "from google.cloud import aiplatform; P = aiplatform.prediction.predictor.Predictor",
        "from google.cloud import aiplatform as aip; P = aip.prediction.Predictor",
        "from google.cloud.aiplatform import prediction; P = prediction.predictor.Predictor",
        "from google.cloud.aiplatform import prediction as cpr; P = cpr.predictor.Predictor",
        "from google.cloud.aiplatform.prediction import Predictor as P",
        "from google.cloud.aiplatform.prediction.predictor import Predictor as P",
        "import google.cloud.aiplatform.prediction.predictor as p; P = p.Predictor",
        "import google.cloud.aiplatform.prediction; P = google.cloud.aiplatform.prediction.Predictor",
        "import google.cloud.aiplatform; P = google.cloud.aiplatform.prediction.predictor.Predictor",
        "from google.cloud.aiplatform.prediction import *; P = Predictor",
    ],
)
def test_every_way_to_write_it_ends_at_the_kits_class(python, statement):
    assert python(f"{statement}\nimport cpr_kit; print(P is cpr_kit.Predictor)") == "True"


@pytest.mark.parametrize(
    "statement",
    [
        "from google.cloud.aiplatform import Model",
        "from google.cloud.aiplatform import gapic as aip",
        "import google.cloud.aiplatform.gapic",
        "from google.cloud.aiplatform.prediction import nothing",
        "from google.cloud import aiplatform; aiplatform.init()",
        "from google.cloud import aiplatform; aiplatform.prediction.nothing",
    ],
)
def test_what_only_the_sdk_has_is_told_with_the_way_to_have_it(python, statement):
    done = python(statement, check=False)

    last = done.stderr.splitlines()[-1]
    assert last.startswith(("ImportError: google.cloud.aiplatform.", "AttributeError: google.cloud.aiplatform."))
    assert "set sdk = true under [image] in cpr.toml" in last


def test_an_import_that_its_author_guards_finds_its_way(python):
    code = """
try:
    from google.cloud.aiplatform import Model
except ImportError:
    Model = None
from google.cloud import aiplatform
print(Model, hasattr(aiplatform, "init"), getattr(aiplatform, "__wrapped__", 7))
"""
    assert python(code) == "None False 7"


def test_other_packages_of_google_stay_as_missing_as_they_were(python):
    for name in ("google.protobuf", "google.cloud.storage", "google.cloud.aiplatform_v1", "googlemaps"):
        done = python(f"import {name}", check=False)
        assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: No module named '{name}'"


def test_packages_of_google_that_are_installed_are_found_beside_it(python, tmp_path):
    package(tmp_path, "google.cloud.storage")
    package(tmp_path, "google.auth")
    code = """
import google.auth, google.cloud.storage
from google.cloud import aiplatform, storage
from google.cloud.aiplatform.prediction import Predictor
print(storage.here, google.auth.here, aiplatform.prediction.Predictor is Predictor)
"""
    assert python(code, tmp_path) == "True True True"


@pytest.mark.parametrize("order", ["storage first", "prediction first"])
@pytest.mark.parametrize("there", ["", "google.auth"])
def test_packages_that_come_onto_the_path_later_are_found_too(python, tmp_path, order, there):
    """A namespace of ours was made when there was none; it must not hide the one that is there now."""
    package(tmp_path, "google.cloud.storage")
    if there:
        package(tmp_path / "early", there)
    late = ["from google.cloud import storage", "from google.cloud.aiplatform import prediction"]
    code = f"""
import sys
import google.cloud.aiplatform.prediction
sys.path.append({str(tmp_path)!r})
{chr(10).join(late if order == "storage first" else reversed(late))}
import google.cloud.storage
print(storage.here, prediction.__name__)
"""
    assert python(code, tmp_path / "early") == "True google.cloud.aiplatform.prediction"


def test_a_google_with_a_file_of_its_own_is_no_hindrance(python, tmp_path):
    """As protobuf and others had it once."""
    package(tmp_path, "google.__init__", "__path__ = __import__('pkgutil').extend_path(__path__, __name__)")
    package(tmp_path, "google.protobuf")

    assert python("import google.protobuf; from google.cloud.aiplatform import prediction; print(1)", tmp_path) == "1"


def test_an_sdk_that_is_installed_wins(python, tmp_path):
    package(tmp_path, "google.cloud.aiplatform.__init__", "real = True")
    package(tmp_path, "google.cloud.aiplatform.prediction.__init__", "real = True")
    code = """
from google.cloud import aiplatform
from google.cloud.aiplatform import prediction
print(aiplatform.real, prediction.real)
"""
    assert python(code, tmp_path) == "True True"
    done = python("import google.cloud.aiplatform.prediction.model_server", tmp_path, check=False)
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: No module named")


def test_an_sdk_that_comes_onto_the_path_later_wins_while_none_was_asked_for(python, tmp_path):
    package(tmp_path, "google.cloud.aiplatform", "real = True")
    code = f"""
import sys, google.cloud
sys.path.append({str(tmp_path)!r})
from google.cloud import aiplatform
print(aiplatform.real)
"""
    assert python(code) == "True"


def test_installing_twice_asks_once(python, tmp_path):
    (tmp_path / "_copy.py").write_text(Path(finder.__file__).read_text())
    code = "import sys, _copy; _copy.install(); print([f.__name__ for f in sys.meta_path].count('SdkNames'))"

    assert python(code, tmp_path) == "1"


@pytest.fixture(scope="module")
def image_python(tmp_path_factory):
    """A virtual environment that sees the kit's wheel as an image does: unpacked into a folder, behind a .pth."""
    folder = tmp_path_factory.mktemp("image")
    venv.create(folder / "venv")
    kit = folder / "kit"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel.write(folder), kit], check=True)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    (site / "__cpr_kit.pth").write_text(f"import site; site.addsitedir({str(kit)!r})\n")
    return folder / "venv" / "bin" / "python"


def test_the_python_of_an_image_has_the_names_from_its_start(image_python):
    code = "import sys; print('cpr_kit' in sys.modules); from google.cloud.aiplatform import prediction; print(prediction.__file__)"
    out = subprocess.run([image_python, "-I", "-c", code], check=True, capture_output=True, text=True).stdout.split()

    assert out[0] == "False"
    assert out[1].endswith("/kit/cpr_kit/sdk/aiplatform/prediction/__init__.py")


def test_the_start_of_python_imports_one_small_file_more(image_python, tmp_path):
    """The finder and nothing else: what it needs, it imports when it is asked for a name of Google's."""
    venv.create(tmp_path)
    pythons = (image_python, tmp_path / "bin" / "python")
    command = ("-I", "-c", "import sys; print(*sys.modules)")
    ours, plain = (subprocess.check_output([python, *command], text=True).split() for python in pythons)

    assert set(ours) - set(plain) == {"__future__", "_cpr_kit_sdk"}
