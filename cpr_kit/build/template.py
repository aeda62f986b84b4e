"""The Dockerfiles that travel with the kit, and a source's text and build arguments for one of them.

Templates are valid Dockerfiles, and values enter as build arguments. Appended are the user's own environment,
whose names no template can know, and what [serve] sets, so that what it leaves out is in no image.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cpr_kit.build import rules
from cpr_kit.build.source import Source
from cpr_kit.config import ImageSection
from cpr_kit.contract import check_environment
from cpr_kit.engine.manifest import file_digest
from cpr_kit.errors import ConfigError
from cpr_kit.serving_spec import is_foreign, serving
from cpr_kit.version import __version__

INSTALLED = "_templates"
BASE = "Dockerfile.base"
KIT_PACKAGES = ("fastapi",)
"""In every image of the kit: handlers written for upstream import from it."""
ENTRYPOINT = ("python", "-m", "cpr_kit.runtime")

_CODE = "COPY --from=code /image/ /\n"
_FINAL = re.compile(r"^(FROM .* AS image\n)", re.MULTILINE)
_EPOCH = "@315532800"  # 1980, as in the templates' scripts
_PACKAGE = Path(__file__).parents[1]
_RESOLVED_LATER = re.compile(r"\$\([^()]*\)")
_FORBIDDEN = {"\n": "a line break", "\r": "a carriage return", "\0": "a null character"}


def folder() -> Path:
    """Where the templates are: inside an installed kit, beside the package in a checkout."""
    installed = _PACKAGE / INSTALLED
    return installed if installed.is_dir() else _PACKAGE.parent / "templates"


def find(name: str) -> Path:
    """The folder of a template. Raises ConfigError with the names that there are."""
    there = sorted(path.parent.name for path in folder().glob("*/Dockerfile"))
    if name in there:
        return folder() / name
    close = difflib.get_close_matches(name, there, 1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    raise ConfigError(f'[image] template "{name}" is unknown; there are: {", ".join(there)}{hint}')


def base() -> Path:
    """Dockerfile.base."""
    installed = folder() / BASE
    return installed if installed.is_file() else _PACKAGE.parent / BASE


def render(source: Source) -> tuple[str, dict[str, str]]:
    """The Dockerfile's text and its build arguments."""
    text = (find(rules.template(source.config)) / "Dockerfile").read_text("utf-8")
    if source.config.image.bake is not None:
        text = _with_model(text, PurePosixPath(source.config.image.bake))
    appended = {**serving(source.config), **baked(source.config.image.env)}
    return text + instructions(appended) + started(source.config.image), arguments(source)


def _with_model(text: str, folder: PurePosixPath) -> str:
    """The model in a layer of its own below the code, so that an edit of the code sends no model.

    The folder's name is one that no shell and no builder takes for more than that: see `rules`.
    """
    apart = (
        "FROM code AS apart\n"
        f"RUN mkdir -p /baked/usr/app/{folder.parent} && mv /image/usr/app/{folder} /baked/usr/app/{folder} && \\\n"
        f"    find /baked /image -depth -exec touch -h -d {_EPOCH} {{}} +\n\n"
    )
    head, final, tail = _FINAL.split(text)
    assert _CODE in tail, "every template with the kit ends in the code's layer"
    return head + apart + final + tail.replace(_CODE, "COPY --from=apart /baked/ /\nCOPY --from=apart /image/ /\n")


def scripts() -> Path:
    """What the templates of images with the kit run while they build: those of `python`, for all of them."""
    return find("python")


def started(image: ImageSection) -> str:
    """ENTRYPOINT and CMD in their exec form, which no shell and no builder looks into.

    What refers to `$(NAME)` has its value only where a container starts, so that the specification alone can say it.
    """
    words = {"ENTRYPOINT": image.command, "CMD": image.args}
    for key, value in (("command", image.command), ("args", image.args)):
        if any("\0" in word or not _encodable(word) for word in value):
            raise ConfigError(f"[image] {key} is {list(value)!r}: no program takes such an argument")
    if any(_RESOLVED_LATER.search(word) for word in (*image.command, *image.args)):
        return ""
    return "".join(f"{name} {json.dumps(value)}\n" for name, value in words.items() if value)


def arguments(source: Source) -> dict[str, str]:
    image = source.config.image
    if is_foreign(source.config):
        return {"BASE_IMAGE": image.base}
    return {
        "BASE_IMAGE": image.base,
        "PORTS": " ".join(map(str, image.ports)),
        **_model(source),
    }


def environment(source: Source) -> dict[str, str]:
    """What the model server reads: the user's classes, and how they are served."""
    return {**_model(source), **serving(source.config)}


def labels(source: Source, code: str | None) -> str:
    """LABEL instructions that tell what an image was made of; `code` is the digest of the code in it."""
    values = {"org.opencontainers.image.base.name": source.config.image.base, "cpr-kit.version": __version__}
    if code is not None:
        values["cpr-kit.source"] = f"sha256:{code}"
    if source.lock is not None:
        values["cpr-kit.lock"] = f"sha256:{file_digest(source.lock)}"
    return "".join(f"LABEL {name}={quoted(name, value)}\n" for name, value in values.items())


def _model(source: Source) -> dict[str, str]:
    if source.app is not None:
        return {"CPR_MODEL_APP": str(source.app)}
    references = {"HANDLER": source.handler, "PREDICTOR": source.predictor, "PREPROCESSOR": source.preprocessor}
    env = {"CPR_MODEL_TRUSTED": "true" if source.config.model.trusted else "false"}
    for kind, reference in references.items():
        if reference is not None:
            env[f"{kind}_MODULE"], env[f"{kind}_CLASS"] = reference.module, reference.name
    return env


def baked(env: Mapping[str, str]) -> dict[str, str]:
    """The user's variables that an image can hold: `$(NAME)` has its value only where a container starts."""
    return {name: value for name, value in env.items() if not _RESOLVED_LATER.search(value)}


def instructions(env: Mapping[str, str]) -> str:
    """ENV instructions, one a line. Raises SpecError for a name and ConfigError for a value that none can hold."""
    check_environment(env)
    return "".join(f"ENV {name}={quoted(name, value)}\n" for name, value in env.items())


def quoted(name: str, value: str) -> str:
    r"""The value as a Dockerfile word that nothing in it can end, expand, or continue.

    >>> print(quoted("A", 'a "b" $c'))
    "a \"b\" \$c"
    """
    for character, what in _FORBIDDEN.items():
        if character in value:
            raise ConfigError(f"[image] env {name} is {value!r}: {what} cannot be part of an image's environment")
    if not _encodable(value):
        raise ConfigError(f"[image] env {name} is {value!r}: it is no Unicode text")
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def _encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
