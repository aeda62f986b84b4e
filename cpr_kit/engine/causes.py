"""What a failed build printed -> why it failed, and what to do. Docker's words, and those of the templates' scripts."""

from __future__ import annotations

import re
from collections.abc import Callable

from cpr_kit.engine import installers
from cpr_kit.engine.failed import Cause, Failed
from cpr_kit.errors import BuildError

_SPACE = re.compile(r"no space left on device|disk quota exceeded|not have enough free space", re.IGNORECASE)
_KILLED = re.compile(r"(?:exit code:|non-zero code:) 137\b|signal: killed")
_FROM = re.compile(r"(?:^|: )FROM (?:--platform=\S+ )?(\S+)|load metadata for (?:docker\.io/(?:library/)?)?(\S+)")
_NO_IMAGE = re.compile(
    r"no such host|pull access denied|manifest unknown|not found|connection refused|i/o timeout|Client\.Timeout"
    r"|unauthorized|repository does not exist|failed to do request|error getting credentials|server misbehaving"
    r"|network is unreachable|does not match the specified platform|no match for platform|no matching manifest",
    re.IGNORECASE,
)
_OLD_ENGINE = re.compile(r"only supported on a Docker daemon with experimental features")
_NO_SHELL = re.compile(r'exec: "(?:/bin/)?sh": |exec /bin/sh: no such file|stat /bin/sh: no such file')
_NO_PROGRAM = re.compile(r"(?:^|[\s/:])(python3?|pip3?): (?:command )?not found", re.MULTILINE)
_OURS = re.compile(r"^cpr-kit: (.+)$", re.MULTILINE)
_CHOOSE = "choose one with Python 3.10 or newer, such as python:3.11-slim"

GONE = Cause(
    what="the container engine stopped, or lost the connection, while it built",
    remedy="start it again (its own log says why it stopped), then build again",
    lacking=True,
)


def explained(error: BuildError, *, platform: str | None = None, engine: str = "docker") -> BuildError:
    """The same error with why and what to do, where its lines tell."""
    cause = find(Failed(step=error.step, lines=error.tail, platform=platform, engine=engine))
    return error if cause is None else told(error, cause)


def told(error: BuildError, cause: Cause) -> BuildError:
    return BuildError(error.step, error.tail, cause=cause.what, remedy=cause.remedy, lacking=cause.lacking)


def find(failed: Failed) -> Cause | None:
    """Why; None where the lines do not tell."""
    return next((cause for rule in _RULES if (cause := rule(failed)) is not None), None)


def missing_image(error: BuildError) -> str | None:
    """The image that the failed step starts from and did not get."""
    origin = _FROM.search(error.step)
    if origin is None or not _NO_IMAGE.search("\n".join((error.step, *error.tail))):
        return None
    return str(origin[1] or origin[2]).rstrip(":")


def other_platform(image: str, have: str, wanted: str) -> Cause:
    return Cause(
        what=f"this machine has {image} for {have} alone, not for {wanted}",
        remedy=f"run: docker pull --platform {wanted} {image}    or build for what it is: --platform {have}",
        lacking=True,
    )


def emulator(platform: str) -> str:
    """What teaches a Linux kernel to run another platform's programs."""
    architecture = platform.split("/")[1] if "/" in platform else "all"
    return f"run: docker run --privileged --rm tonistiigi/binfmt --install {architecture}"


def _space(failed: Failed) -> Cause | None:
    if not _SPACE.search(failed.text):
        return None
    if failed.engine == "process":
        remedy = "free some, or set CPR_CACHE to a folder of another disk; then build again"
        return Cause(what="no space is left on this machine's disk", remedy=remedy, lacking=True)
    remedy = "free some, then build again; docker system df shows what takes it, docker system prune what nothing uses"
    return Cause(what="no space is left on the engine's disk", remedy=remedy, lacking=True)


def _memory(failed: Failed) -> Cause | None:
    if _KILLED.search(failed.text):
        what = "the step was killed (exit code 137), most likely because the engine has too little memory"
        return Cause(what=what, remedy="give the engine more memory, then build again", lacking=True)
    return None


def _image(failed: Failed) -> Cause | None:
    image = missing_image(BuildError(failed.step, failed.lines))
    if image is None:
        return None
    platform = f" for {failed.platform}" if failed.platform else ""
    return Cause(
        what=f"this machine has no image {image}{platform}, and no registry gave it",
        remedy=f"check the name, then run: docker pull {image}    or, without a registry: cpr base {image}",
        lacking=True,
    )


def _foreign(failed: Failed) -> Cause | None:
    wanted = failed.platform or "foreign"
    if _OLD_ENGINE.search(failed.text):
        return Cause(
            what=f"the classic builder of this engine cannot build for {wanted}",
            remedy="install docker-buildx-plugin, or a newer engine; or build for the engine's own: --platform",
            lacking=True,
        )
    if "exec format error" in failed.text:
        return Cause(
            what=f"this engine cannot run {wanted} programs",
            remedy=f"{emulator(wanted)}    or build on such a machine, or for this one: --platform",
            lacking=True,
        )
    return None


def _template(failed: Failed) -> Cause | None:
    """The templates' scripts say themselves what stopped them."""
    if said := _OURS.findall(failed.said):
        what, _, remedy = said[-1].partition("; ")
        return Cause(what=what, remedy=remedy)
    return None


def _python(failed: Failed) -> Cause | None:
    if _NO_SHELL.search(failed.text):
        return Cause(what="the base image has no shell, and so hardly a Python", remedy=_CHOOSE)
    if missing := _NO_PROGRAM.search(failed.said):
        return Cause(what=f"the base image has no {missing[1]} on its PATH", remedy=_CHOOSE)
    return None


_RULES: tuple[Callable[[Failed], Cause | None], ...] = (
    *(_space, _memory, _image, _foreign, _template, _python),
    *installers.RULES,
)
