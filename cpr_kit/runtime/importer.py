"""A class from its name, with the difference that matters told apart: yours is missing, or something it imports is."""

from __future__ import annotations

import importlib
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from cpr_kit.contract import Reference
from cpr_kit.errors import StartError
from cpr_kit.runtime import startup
from cpr_kit.sdk import finder


def load_name(reference: Reference) -> Any:
    """Import `module:name`, whatever it is. Raises StartError as `load_class` does."""
    module = _module(reference)
    found = getattr(module, reference.name, None)
    if found is not None:
        return found
    names = [name for name in vars(module) if not name.startswith("_")]
    raise StartError(f'{_file(module)} has no "{reference.name}"', f"it has: {', '.join(names) or 'nothing'}")


def load_class(reference: Reference) -> type:
    """Import `module:Class`. Raises StartError naming the module, the class, or the import inside that failed."""
    module = _module(reference)
    found = getattr(module, reference.name, None)
    if isinstance(found, type):
        return found
    classes = sorted(n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__)
    raise StartError(
        f'{_file(module)} has no class "{reference.name}"',
        f"it has: {', '.join(classes) or 'no class at all'}",
    )


def _module(reference: Reference) -> ModuleType:
    finder.install()  # an image's Python has done it as it started; a process of this machine has not
    try:
        with startup.phase("import"):
            return importlib.import_module(reference.module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing and (reference.module == missing or reference.module.startswith(f"{missing}.")):
            here = ", ".join(sorted(path.name for path in Path.cwd().glob("*.py"))) or "no Python file"
            raise StartError(
                f'module "{reference.module}" does not exist in {Path.cwd()}', f"that folder has: {here}"
            ) from error
        raise StartError(
            f'{place(error)} imports "{missing}", which is not installed',
            "add its distribution to requirements.txt and build again",
        ) from error
    except (Exception, SystemExit) as error:
        raise StartError(
            f'module "{reference.module}" cannot be imported: {told(error)} ({place(error)})',
            "mend that line; its traceback is above",
        ) from error


def told(error: BaseException) -> str:
    """The exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def place(error: BaseException) -> str:
    """`file.py line 12`: the innermost line of the author's own code that the exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name} line {error.lineno}"
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith("<")]
    elsewhere = (Path(__file__).parents[1], Path(sysconfig.get_path("stdlib")))
    outside_kit = [f for f in own if not any(Path(f.filename).is_relative_to(folder) for folder in elsewhere)]
    authors = [f for f in outside_kit if Path(f.filename).is_relative_to(Path.cwd())] or outside_kit
    return f"{Path(authors[-1].filename).name} line {authors[-1].lineno}" if authors else "the kit"


def _file(module: ModuleType) -> str:
    return Path(module.__file__).name if module.__file__ else module.__name__
