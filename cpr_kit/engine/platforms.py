"""Platforms of images, `os/architecture[/variant]`, and what can be known to be impossible before a build."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpr_kit.engine.causes import emulator
from cpr_kit.errors import BuildError

_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "i386": "386"}
_IMPLIED = {"arm64": "v8", "amd64": "v1"}
_NATIVE = {"amd64": {"386"}, "arm64": {"arm"}}
"""What a processor runs beside its own programs."""
_EMULATORS = Path("/proc/sys/fs/binfmt_misc")
_FROM = re.compile(r"^[ \t]*FROM[ \t]+(?!--)(\S+)(?:[ \t]+AS[ \t]+(\S+))?", re.IGNORECASE | re.MULTILINE)
_ARGUMENT = re.compile(r"\$\{?(\w+)\}?")
_QEMU = {"arm64": "aarch64", "amd64": "x86_64", "386": "i386", "mips64le": "mips64el", "loong64": "loongarch64"}


def normalised(platform: str) -> str:
    """As engines compare them.

    >>> normalised("Linux/aarch64/v8")
    'linux/arm64'
    """
    system, _, rest = platform.lower().partition("/")
    architecture, _, variant = rest.partition("/")
    architecture = _ALIASES.get(architecture, architecture)
    kept = variant if variant != _IMPLIED.get(architecture) else ""
    return "/".join(part for part in (system, architecture, kept) if part)


def matches(platform: str, wanted: str) -> bool:
    """Whether an image of `platform` is one of `wanted`; a variant that was asked for must be there."""
    have, want = normalised(platform).split("/"), normalised(wanted).split("/")
    return have[: len(want)] == want or (have[:2] == want[:2] and len(have) < len(want))


def check(wanted: str, about: Mapping[str, Any], *, kernel: str, emulators: Path = _EMULATORS) -> None:
    """Raises BuildError where this engine is known to have no way to run programs of `wanted`.

    `about` is what the engine says of its version. Known is what `emulators` has, where the engine's kernel is ours.
    """
    own = normalised(f"{about.get('Os', '')}/{about.get('Arch', '')}")
    architecture = normalised(wanted).split("/")[1]
    native = own.rpartition("/")[2]
    if architecture == native or architecture in _NATIVE.get(native, ()) or about.get("KernelVersion") != kernel:
        return
    if emulated(architecture, emulators) is False:
        raise BuildError(
            f"the platform {wanted}",
            cause=f"this engine runs {own}, and this machine has no emulator for {architecture}",
            remedy=f"{emulator(wanted)}    or build on such a machine, or for this one: --platform {own}",
            lacking=True,
        )


def bases(dockerfile: str, arguments: Mapping[str, str]) -> set[str]:
    """The images that a Dockerfile starts from, those aside whose platform or name it works out by itself."""
    found, stages = set(), set()
    for image, stage in _FROM.findall(dockerfile):
        word = _ARGUMENT.fullmatch(image)
        found.add(arguments.get(word[1], "$") if word else image)
        stages.add(stage)
    return {image for image in found - stages if "$" not in image and image != "scratch"}


def emulated(architecture: str, registered: Path) -> bool | None:
    """Whether this kernel hands programs of that architecture to an emulator; None where it does not say."""
    try:
        if not (registered / "status").read_text().startswith("enabled"):
            return False
        names = [path.name for path in registered.iterdir()]
    except OSError:
        return None
    name = _QEMU.get(architecture, architecture)
    return any(entry == f"qemu-{name}" or entry.startswith(f"qemu-{name}-") for entry in names)
