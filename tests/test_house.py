"""The walls and budgets of the house: what each room may import, how much, and what must be written about it."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cpr_kit"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
FILES = sorted(PACKAGE.rglob("*.py"))

# The rooms that each room may import beside itself and the files at the top of the package.
MAY_IMPORT = {
    "runtime": set(),  # and the finder of `sdk`, which imports nothing of the kit
    "sdk": {"runtime"},
    "engine": set(),
    "build": {"engine"},
    "harness": {"engine"},
    "emulator": {"engine", "harness"},
    "compat": {"engine", "build", "harness", "runtime", "emulator", "savedmodel", "prebuilt"},
    "convert": {"runtime"},
    "deploy": {"engine", "harness", "prebuilt"},
    "migrate": {"engine", "build", "harness"},
    "model_server": {"runtime"},  # in a container of its own
    "savedmodel": set(),
    "serving_functions": {"runtime"},
    "prebuilt": set(),
    "compare": {"engine", "build", "harness", "deploy"},
    "cli": {
        "engine",
        "build",
        "harness",
        "compat",
        "convert",
        "deploy",
        "emulator",
        "migrate",
        "runtime",
        "savedmodel",
        "prebuilt",
        "compare",
    },
}
TOP_FILES_OF_RUNTIME = {"cpr_kit.contract", "cpr_kit.errors"}
FINDER = ("cpr_kit.sdk", "cpr_kit.sdk.finder")
IN_THE_CONTAINER = ("runtime", "sdk")
NEVER_IN_RUNTIME = ("docker", "requests", "click", "fastapi", "google.cloud")


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path, *, at_import_time=False):
    """Names of modules a file imports; with `at_import_time`, only those that run when it is imported."""
    module, package = module_of(path), module_of(path.parent / "__init__.py")
    assert package
    found = set()
    for node in walk(ast.parse(path.read_text()), at_import_time):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def walk(tree, at_import_time):
    stack = [tree]
    while stack:
        node = stack.pop()
        if at_import_time and (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_for_types(node)
        ):
            continue
        yield node
        stack.extend(ast.iter_child_nodes(node))


def is_for_types(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "cpr_kit" and parts[1] in ROOMS else None


def test_every_room_is_known():
    assert set(ROOMS) == set(MAY_IMPORT)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_wall_lets_through(room):
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for name in imports_of(path):
            other = room_of(name)
            if room == "runtime" and name in FINDER:
                continue
            assert other in {None, room} | MAY_IMPORT[room], f"{module_of(path)} imports {name}"
            if room in IN_THE_CONTAINER and name.startswith("cpr_kit."):
                top = ".".join(name.split(".")[:2])
                assert other or top in TOP_FILES_OF_RUNTIME, f"{path}: {name}"


@pytest.mark.parametrize("room", IN_THE_CONTAINER)
def test_what_runs_in_the_container_imports_no_tool(room):
    for path in (PACKAGE / room).rglob("*.py"):
        for name in imports_of(path):
            assert not any(name == tool or name.startswith(f"{tool}.") for tool in NEVER_IN_RUNTIME), f"{path}: {name}"


def test_the_finder_of_the_sdks_names_imports_nothing_but_python():
    """A copy of it runs at each start of Python in an image."""
    path = PACKAGE / "sdk" / "finder.py"
    assert imports_of(path, at_import_time=True) <= {"sys", "__future__", "__future__.annotations"}
    assert not [name for name in imports_of(path) if name.startswith("cpr_kit")]


def test_the_command_line_imports_rooms_when_called():
    for path in (PACKAGE / "cli").rglob("*.py"):
        heavy = {name for name in imports_of(path, at_import_time=True) if room_of(name) not in {None, "cli"}}
        # The parser of a build's output is pure and small, and the display is made of it.
        assert not {name for name in heavy if not name.startswith("cpr_kit.engine.progress")}, path


def test_no_import_cycle():
    modules = {module_of(path): path for path in FILES}
    graph = {name: imports_of(path, at_import_time=True) & modules.keys() - {name} for name, path in modules.items()}
    done, open_ = set(), []

    def visit(name):
        if name in done:
            return
        assert name not in open_, f"import cycle: {' -> '.join([*open_[open_.index(name) :], name])}"
        open_.append(name)
        for other in sorted(graph[name]):
            visit(other)
        open_.pop()
        done.add(name)

    for name in sorted(graph):
        visit(name)


def loaded_by(statement):
    code = f"import sys, json; before = set(sys.modules); {statement}; print(json.dumps([len(sys.modules), sorted(set(sys.modules) - before)]))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def test_importing_the_package_is_light_and_needs_no_library():
    total, new = loaded_by("import cpr_kit")
    assert total < 120
    tools = {name.partition(".")[0] for name in new} - sys.stdlib_module_names - {"cpr_kit"}
    assert tools == set()


def test_importing_the_server_is_light():
    total, new = loaded_by("import uvicorn, cpr_kit.runtime.app, cpr_kit.runtime.server")
    assert total < 342  # 14 of them uvicorn's HTTP protocol, which it loads as it starts in any case
    assert not {name for name in new if name.partition(".")[0] in {"google", "docker", "fastapi", "numpy", "requests"}}


def test_exported_names_are_those_listed():
    import cpr_kit

    assert cpr_kit.__all__ == sorted(cpr_kit.__all__)
    for name in cpr_kit.__all__:
        assert getattr(cpr_kit, name) is not None
    for path in PACKAGE.rglob("__init__.py"):
        if path.parent != PACKAGE and PACKAGE / "sdk" / "aiplatform" not in path.parents:  # those stand for another's
            assert path.read_text() == "", f"{path} is not empty"


def test_no_file_and_no_function_is_too_long():
    for path in FILES:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = node.end_lineno - body[0].lineno + 1 if body else 0
                assert length <= 50, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_the_tests_of_every_room_are_collected():
    out = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", str(ROOT / "tests")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for room in ROOMS:
        assert f"tests/{room}/" in out, f"no test of {room} is collected"


def test_the_readme_names_every_command():
    from cpr_kit.cli.main import COMMANDS

    readme = (ROOT / "README.md").read_text()
    for command in COMMANDS:
        assert f"`cpr {command}" in readme, command


def test_the_readme_names_every_variable_that_the_code_reads():
    readme = (ROOT / "README.md").read_text()
    for variable in variables():
        assert variable in readme, variable


def variables():
    """Every environment variable of the kit's own, the platform's and upstream's that stands in the code."""
    from cpr_kit import config_values
    from cpr_kit.config import ImageSection, ModelSection, ServeSection
    from cpr_kit.contract import AIP_VARIABLES
    from cpr_kit.deploy_config import DeploySection

    found = set(AIP_VARIABLES)
    for path in FILES:
        found |= set(re.findall(r"\b(?:CPR|VERTEX_CPR)_[A-Z_]+[A-Z]\b", path.read_text()))
    for kind in ("HANDLER", "PREDICTOR", "PREPROCESSOR"):
        found |= {f"{kind}_MODULE", f"{kind}_CLASS"}
    for section, prefix in ((ModelSection, "CPR_MODEL"), (ImageSection, "CPR_IMAGE"), (ServeSection, "CPR_SERVE")):
        found |= {f"{prefix}_{name.upper()}" for name in section.__dataclass_fields__ if name != "env"}
    return found | set(config_values.variables(DeploySection, "CPR_DEPLOY_").values())


def test_the_version_is_in_the_changelog():
    from cpr_kit.version import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
