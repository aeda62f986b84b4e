"""What the kernel's control groups leave this container: processors and memory, by version 1 and version 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MOUNT = "sys/fs/cgroup"
_UNIFIED = ("", "unified")  # version 2 alone, and beside version 1
# Version 1 writes "no limit" as the largest multiple of a page that its counter holds.
_NO_LIMIT = 1 << 60


def processors(root: Path = Path("/")) -> float | None:
    """The tightest quota around this process, in processors; None where there is none, or none that can be read."""
    quotas = [_ratio(*_words(folder / "cpu.max", 2)) for folder in _folders(root, "")]
    quotas += [
        _ratio(*_words(folder / "cpu.cfs_quota_us", 1), *_words(folder / "cpu.cfs_period_us", 1))
        for folder in _folders(root, "cpu")
    ]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory(root: Path = Path("/")) -> int | None:
    """The tightest memory limit around this process, in bytes; None where there is none."""
    files = [folder / "memory.max" for folder in _folders(root, "")]
    files += [folder / "memory.limit_in_bytes" for folder in _folders(root, "memory")]
    limits = [_number(*_words(file, 1)) for file in files]
    return min((limit for limit in limits if limit is not None and limit < _NO_LIMIT), default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Where the limits of one controller stand, "" being version 2: this process's group and all around it.

    Inside a container the groups' own paths are often not mounted, and the mount's root is the container's group.
    """
    for names, group in _groups(root):
        if controller not in names:
            continue
        mounts = (name for name in names if name) if controller else _UNIFIED
        for mount in {*mounts, *([",".join(names)] if controller else [])}:
            for part in (group, *group.parents):
                yield root / _MOUNT / mount / part.relative_to("/")


def _groups(root: Path) -> Iterator[tuple[list[str], PurePosixPath]]:
    """The lines of /proc/self/cgroup: `4:cpu,cpuacct:/path`, or `0::/path` for version 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        names, colon, path = rest.partition(":")
        # A group outside this namespace is written with "..", and cannot be seen from here.
        group = PurePosixPath(path if path.startswith("/") and ".." not in path else "/")
        if colon:
            yield names.split(","), group


def _words(file: Path, count: int) -> list[str]:
    try:
        words = file.read_text(errors="replace").split()
    except OSError:
        words = []
    return words if len(words) == count else [""] * count


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and int(text) > 0 else None


def _ratio(quota: str, period: str) -> float | None:
    """No limit where one of them is no number: version 2 writes "max", version 1 writes -1."""
    above, below = _number(quota), _number(period)
    return above / below if above and below else None
