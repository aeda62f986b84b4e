import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from cpr_kit.build import takeover, uses
from cpr_kit.build.classes import Folder
from cpr_kit.build.source import Source
from cpr_kit.config import Config, ImageSection, ModelSection
from cpr_kit.errors import SourceError

SDK = "google-cloud-aiplatform[prediction]>=1.16.0"
PROVIDED = "from google.cloud.aiplatform.prediction.predictor import Predictor\n"
BODY = (
    "class P(Predictor):\n    def load(self, artifacts_uri): pass\n    def predict(self, instances): return instances\n"
)


@pytest.fixture
def adapt(tmp_path):
    """adapt(requirements, **{"predictor.py": text, ...}) -> (lines, warnings with the folder left out)."""

    def run(text, sdk=False, **files):
        files = files or {"predictor.py": PROVIDED}
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        asked = takeover.adapt(text, Folder(tmp_path), [tmp_path / next(iter(files))], sdk=sdk)
        return asked.text.splitlines(), [each.replace(f"{tmp_path}/", "") for each in asked.warnings]

    return run


@pytest.mark.parametrize(
    "line",
    [
        SDK,
        "google-cloud-aiplatform",
        "google_cloud_aiplatform [prediction] == 1.27.0  # the SDK",
        "Google.Cloud.AIPlatform; python_version >= '3.7'",
        "google-cloud-aiplatform[prediction] @ git+https://github.com/googleapis/python-aiplatform.git@main",
        "google-cloud-aiplatform @ https://files.example/google_cloud_aiplatform-1.27.0-py2.py3-none-any.whl",
        "git+https://github.com/googleapis/python-aiplatform.git@custom-prediction-routine#egg=google-cloud-aiplatform[prediction]",
        "git+https://github.com/googleapis/python-aiplatform.git@main#egg=google_cloud_aiplatform",
        "git+https://github.com/googleapis/python-aiplatform.git",
        "git+ssh://git@github.com/googleapis/python-aiplatform@main",
        "https://files.example/google_cloud_aiplatform-1.27.0-py2.py3-none-any.whl",
        "google-cloud-aiplatform==1.27.0 --hash=sha256:00",
    ],
)
def test_the_sdk_is_left_out_and_the_line_is_told(adapt, line):
    lines, warnings = adapt(f"fastapi\n{line}\nnumpy~=1.20\n")

    assert lines == ["fastapi", "numpy~=1.20"]
    shown = line.partition("  #")[0].partition(" --hash")[0]
    assert warnings == [
        f'"{shown}" is left out of the image, since the kit has all that the code uses of it; '
        "sdk = true under [image] keeps it"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "google-cloud-aiplatform-v1-tools",
        "google-cloud-storage>=1.26.0,<2.0.0dev",
        "# google-cloud-aiplatform[prediction]",
        "git+https://github.com/mine/my-python-aiplatform-tools.git",
        "git+https://github.com/mine/tools.git#egg=google-cloud-aiplatform-tools",
        "--extra-index-url https://index.example/simple",
    ],
)
def test_what_only_looks_like_it_stays(adapt, line):
    assert adapt(f"{line}\n") == ([line], [])


def test_requirements_of_other_folders_stay_byte_for_byte(tmp_path):
    text = "uvicorn==0.17.6   # a comment\r\n\n  numpy \n"
    (tmp_path / "predictor.py").write_text("from cpr_kit import Predictor\n")

    assert takeover.adapt(text, Folder(tmp_path), [tmp_path / "predictor.py"], sdk=False).text == text


@pytest.mark.parametrize(
    ("code", "line", "name"),
    [
        ("from google.cloud import aiplatform\naiplatform.init()\n", 2, "google.cloud.aiplatform.init"),
        ("from google.cloud import aiplatform as aip\n\nx = [aip.Model('m')]\n", 3, "google.cloud.aiplatform.Model"),
        ("from google.cloud.aiplatform import Model\n", 1, "google.cloud.aiplatform.Model"),
        ("from google.cloud.aiplatform.gapic import A\n", 1, "google.cloud.aiplatform.gapic.A"),
        ("import google.cloud.aiplatform\ngoogle.cloud.aiplatform.Endpoint\n", 2, "google.cloud.aiplatform.Endpoint"),
        ("from google.cloud import aiplatform_v1\n", 1, "google.cloud.aiplatform_v1"),
        ("import vertexai\n", 1, "vertexai"),
        ("from vertexai.preview import x\n", 1, "vertexai.preview.x"),
        ("from google.cloud.aiplatform import *\n", 1, "google.cloud.aiplatform.*"),
        ("def f():\n    from google.cloud.aiplatform import utils\n    utils.gcs_utils.x()\n", 3, "google.cloud.aiplatform.utils.gcs_utils.x"),
        ("import importlib\nimportlib.import_module('google.cloud.aiplatform.explain')\n", 2, "google.cloud.aiplatform.explain"),
        ("try:\n    from google.cloud.aiplatform import Model\nexcept ImportError:\n    Model = None\n", 2, "google.cloud.aiplatform.Model"),
        ("from google.cloud.aiplatform.constants.prediction import XGBOOST\n", 1, "google.cloud.aiplatform.constants.prediction.XGBOOST"),
    ],
)  # fmt: skip
def test_code_that_uses_more_keeps_it_and_its_line_is_told(adapt, code, line, name):
    lines, warnings = adapt(f"{SDK}\n", **{"predictor.py": code})

    assert lines == [SDK]
    assert warnings == [
        f"predictor.py:{line} uses {name}, which only the SDK has: google-cloud-aiplatform is in the image"
    ]


@pytest.mark.parametrize(
    "code",
    [
        "from google.cloud import aiplatform\nclass P(aiplatform.prediction.predictor.Predictor): pass\n",
        "from google.cloud.aiplatform import prediction as cpr\nclass P(cpr.predictor.Predictor): pass\n",
        "from google.cloud.aiplatform.prediction.sklearn.predictor import SklearnPredictor\nSklearnPredictor.load\n",
        "from google.cloud.aiplatform.utils import prediction_utils\nprediction_utils.download_model_artifacts('')\n",
        "from google.cloud.aiplatform.prediction import model_server\nmodel_server.ModelServer(1).app.routes\n",
        "from google.cloud.aiplatform.prediction import LocalModel\n",
        "import google.cloud.aiplatform.prediction.predictor as p\np.Predictor\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from google.cloud.aiplatform import Model\n",
        "import aiplatform\naiplatform.init()\n",
        "import google\ngoogle.cloud.storage\n",
    ],
)
def test_code_that_gets_by_with_the_kits_counterparts_does_not(adapt, code):
    lines, warnings = adapt(f"{SDK}\n", **{"predictor.py": code})

    assert lines == []
    assert len(warnings) == 1
    assert "is left out" in warnings[0]


def test_only_what_is_served_counts(adapt):
    """Training and deploying lie in the same folder, and use more."""
    more = "from google.cloud import aiplatform\naiplatform.init()\n"
    files = {
        "predictor.py": f"{PROVIDED}import scaling\n",
        "scaling.py": "x = 1\n",
        "train.py": more,
        "deploy/up.py": more,
    }

    assert adapt(f"{SDK}\n", **files)[0] == []


@pytest.mark.parametrize(
    ("statement", "file"),
    [
        ("import more", "more.py"),
        ("from more import x", "more.py"),
        ("import lib.more", "lib/more.py"),
        ("from lib import more", "lib/more.py"),
        ("import lib.more", "lib/__init__.py"),
        ("def f():\n    import more", "more.py"),
        ("import importlib; importlib.import_module('more')", "more.py"),
    ],
)
def test_what_the_served_code_imports_counts(adapt, statement, file):
    files = {"predictor.py": f"{PROVIDED}{statement}\n", "lib/more.py": "", file: "import vertexai\n"}

    assert adapt(f"{SDK}\n", **files) == (
        [SDK],
        [f"{file}:1 uses vertexai, which only the SDK has: google-cloud-aiplatform is in the image"],
    )


def test_relative_imports_are_followed(adapt):
    files = {
        "serving/predictor.py": "from .a import x\nfrom ..top import y\n",
        "serving/__init__.py": "",
        "serving/a.py": "from . import b\n",
        "serving/b.py": "import vertexai\n",
        "top.py": "",
    }
    assert "serving/b.py:1 uses vertexai" in adapt(f"{SDK}\n", **files)[1][0]


def test_files_that_import_each_other_end(adapt):
    assert adapt(f"{SDK}\n", **{"predictor.py": "import other\n", "other.py": "import predictor\n"})[0] == []


def test_it_stays_when_asked_for(adapt):
    assert adapt(f"{SDK}\n", sdk=True) == ([SDK], [])
    assert adapt("numpy\n", sdk=True)[0] == ["numpy", "google-cloud-aiplatform[prediction]"]


def test_code_that_uses_more_gets_it_as_upstreams_images_have_it_unasked(adapt):
    lines, warnings = adapt("numpy\n", **{"predictor.py": "import vertexai\n"})

    assert lines == ["numpy", "google-cloud-aiplatform[prediction]"]
    assert len(warnings) == 1


def test_what_would_have_come_with_it_is_asked_for_by_name(adapt):
    code = f"{PROVIDED}from google.cloud import storage\nimport yaml, numpy\nimport google.auth.transport.requests\n"
    lines, warnings = adapt(f"{SDK}\nPyYAML\n", **{"predictor.py": code})

    assert lines == ["PyYAML", "google-cloud-storage", "google-auth"]
    assert warnings[1:] == [
        "predictor.py:2 imports google.cloud.storage, which came with the SDK: google-cloud-storage is installed by itself",
        "predictor.py:4 imports google.auth.transport.requests, which came with the SDK: google-auth is installed by itself",
    ]


@pytest.mark.parametrize(
    ("line", "adapted"),
    [
        ("uvicorn==0.17.6", "uvicorn"),
        ("uvicorn[standard]==0.17.6  # pinned", "uvicorn[standard]"),
        ("uvicorn~=0.17", "uvicorn~=0.17"),  # up to 1.0
        ("uvicorn~=0.17.0", "uvicorn"),
        ("fastapi<0.90", "fastapi"),
        ("fastapi>=0.71,<=0.124.4", "fastapi>=0.71,<=0.124.4"),
        ("starlette==0.36.*; python_version >= '3.8'", 'starlette; python_version >= "3.8"'),
        ("httptools", "httptools"),
        ("uvloop>=0.17", "uvloop>=0.17"),
        ("numpy==1.17", "numpy==1.17"),  # not the server's own
        ("scikit-learn~=0.24", "scikit-learn~=0.24"),
    ],
)
def test_pins_of_the_servers_packages_hold_unless_the_kits_server_needs_another(adapt, line, adapted):
    lines, warnings = adapt(f"{SDK}\n{line}\n")

    assert lines == [adapted]
    assert len(warnings) == 1 + (line != adapted)
    if line.startswith("uvicorn=="):
        assert (
            warnings[1] == '"uvicorn==0.17.6" is installed without its version: the kit\'s server needs uvicorn>=0.30'
        )


def test_lines_with_hashes_stay_as_they_were_locked(adapt):
    code = f"{PROVIDED}import yaml\n"
    lines, _ = adapt(f"{SDK} --hash=sha256:00\nuvicorn==0.17.6 --hash=sha256:11\n", **{"predictor.py": code})

    assert lines == ["uvicorn==0.17.6 --hash=sha256:11"]


GRID = [Version(text) for text in ["0", "0.1", *(f"{major}.{minor}{end}" for major in range(4) for minor in range(4) for end in ("", ".0.5", ".1", ".9", ".99"))]]  # fmt: skip
VERSIONS = st.builds("{}.{}".format, st.integers(0, 3), st.integers(0, 3))
SPECIFIERS = st.builds(
    lambda parts: SpecifierSet(",".join(f"{operator}{version}" for operator, version in parts)),
    st.lists(st.tuples(st.sampled_from([">=", "<=", ">", "<", "==", "!=", "~="]), VERSIONS), max_size=3),
)


@given(SPECIFIERS, SPECIFIERS)
def test_two_specifiers_contradict_each_other_where_no_version_is_in_both(one, other):
    if takeover.contradicts(one, other):
        assert not [version for version in GRID if version in one and version in other]
    assert takeover.contradicts(one, other) == takeover.contradicts(other, one)


@given(SPECIFIERS, SPECIFIERS)
def test_where_many_versions_are_in_both_they_do_not(one, other):
    if any(version in one and version in other for version in GRID):
        assert not takeover.contradicts(one, other)


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("plain")
    (root / "predictor.py").write_text(PROVIDED)
    return Folder(root)


@given(line=st.text(max_size=80))
def test_no_line_beside_it_ends_in_a_traceback_or_hides_it(plain_folder, line):
    asked = takeover.adapt(f"{line}\n{SDK}\n", plain_folder, [plain_folder.root / "predictor.py"], sdk=False)

    assert SDK not in asked.text.splitlines()[-1:]
    assert any("is left out" in warning for warning in asked.warnings)


def read(folder, **image):
    model = ModelSection(
        predictor="predictor:P", requirements="requirements.txt" if (folder / "requirements.txt").exists() else None
    )
    return Source.read(Config(folder=folder, model=model, image=ImageSection(**image)))


def test_a_source_has_the_requirements_that_its_image_gets(tmp_path):
    (tmp_path / "predictor.py").write_text(PROVIDED + BODY)
    (tmp_path / "requirements.txt").write_text(f"{SDK}\nnumpy\n")

    source = read(tmp_path)
    assert source.requirements_text == "numpy\n"
    assert [warning.partition(" is ")[2][:8] for warning in source.warnings] == ["left out"]
    assert read(tmp_path, sdk=True).requirements_text == f"{SDK}\nnumpy\n"
    assert read(tmp_path, sdk=True).warnings == ()


def test_a_source_without_requirements_that_uses_more_has_the_sdk(tmp_path):
    (tmp_path / "predictor.py").write_text(f"import vertexai\n{PROVIDED}{BODY}")

    source = read(tmp_path)
    assert source.requirements_text == "google-cloud-aiplatform[prediction]\n"
    assert len([warning for warning in source.warnings if "only the SDK has" in warning]) == 1


def test_everything_the_tree_holds_is_provided():
    assert uses.Use("", "google.cloud.aiplatform.prediction.xgboost.predictor.XgboostPredictor").is_provided
    assert uses.Use("", "google.cloud.aiplatform.prediction.model_server").is_provided
    assert not uses.Use("", "google.cloud.aiplatform.prediction.model_servers").is_provided
    assert set(uses.provided()) >= {"google.cloud.aiplatform", "google.cloud.aiplatform.constants.prediction"}


def test_extras_that_bring_more_than_prediction_keep_it(adapt):
    line = "google-cloud-aiplatform[prediction,datasets]"
    assert adapt(line) == ([line], [])


def test_only_what_type_checkers_alone_read_is_passed_over(adapt):
    line = "google-cloud-aiplatform[prediction]"
    for test, kept in (("TYPE_CHECKING", False), ("typing.TYPE_CHECKING", False), ("not TYPE_CHECKING", True)):
        code = f"import typing\nfrom typing import TYPE_CHECKING\nif {test}:\n    import vertexai\n"
        assert (line in adapt(line, **{"predictor.py": code})[0]) is kept, test


def test_an_extra_package_that_names_it_keeps_it(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "code.py").write_text("from google.cloud import aiplatform\n")
    assert takeover.is_used_by([tmp_path / "mine"])
    assert not takeover.is_used_by([])


def test_hashed_requirements_are_not_spoilt(adapt):
    with pytest.raises(SourceError, match="add it there with its own"):
        adapt("idna==3.7 --hash=sha256:00", **{"predictor.py": "import vertexai\n"})
