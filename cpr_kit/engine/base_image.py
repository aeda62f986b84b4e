"""A base image out of Debian's packages: for machines where no registry can be reached (`cpr base NAME`)."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from cpr_kit.engine.protocol import Engine, Image, Output
from cpr_kit.engine.reaper import guarded, temporary_folder
from cpr_kit.errors import BuildError, EngineUnavailable, LackingError

RELEASE = "bookworm"
RELEASE_PYTHON = "3.11"
PACKAGES = (
    "python3",
    "python3-venv",
    "python3-pip",
    "ca-certificates",
    "libgomp1",  # the wheels of xgboost, lightgbm and scikit-learn load it
)
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
CHANGES = (
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV LANG=C.UTF-8",
    'CMD ["python3"]',
)

_CHUNK = 1 << 20
_TAIL = 20


@runtime_checkable
class Importer(Protocol):
    """An engine that can make an image out of a root file system's tar archive."""

    def import_archive(self, chunks: Iterable[bytes], reference: str, changes: Sequence[str]) -> Image: ...


def make(name: str, engine: Engine, output: Output) -> Image:
    """Make `name` from Debian's packages. Raises LackingError where that cannot work, BuildError where it did not."""
    if not isinstance(engine, Importer):
        raise EngineUnavailable(f"a base image needs a container engine, and this one is {engine.name}")
    _check_machine()
    note = mismatch(name)
    if note:
        output(note)
    with _debian(plan(ca_bundle()), output) as chunks:
        return engine.import_archive(chunks, name, CHANGES)


def mismatch(name: str) -> str | None:
    """One line when `name` asks for another Python than Debian's release has."""
    asked = re.search(r"python[^:/]*:(\d+\.\d+)", name)
    if asked is None or asked[1] == RELEASE_PYTHON:
        return None
    return f"{name} asks for Python {asked[1]}; Debian {RELEASE} has {RELEASE_PYTHON}, and that is what it gets"


def ca_bundle(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The certificates this machine trusts, in one file."""
    for path in (environ.get("SSL_CERT_FILE"), environ.get("REQUESTS_CA_BUNDLE"), CA_BUNDLE):
        if path and Path(path).is_file():
            return Path(path)
    return None


def plan(bundle: Path | None) -> list[str]:
    """The mmdebstrap command that writes the root file system to its standard output."""
    hooks = [
        # Debian keeps pip from its own Python; the official python images, which this one stands in for, do not.
        'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
        'ln -sf python3 "$1"/usr/bin/python',
        'rm -rf "$1"/var/cache/debconf/*-old "$1"/var/log/*.log',
    ]
    if bundle:
        hooks.append(f"upload {shlex.quote(str(bundle))} {CA_BUNDLE}")
        # In pip's own file and not in SSL_CERT_FILE and the like: an image made from this one inherits
        # its environment, and user code would then see variables that the official image does not set.
        hooks.append(f"printf '[global]\\ncert = {CA_BUNDLE}\\n' > \"$1\"/etc/pip.conf")
    return [
        "mmdebstrap",
        "--variant=apt",
        f"--include={','.join(PACKAGES)}",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        *(f"--customize-hook={hook}" for hook in hooks),
        "--format=tar",
        RELEASE,
        "-",
    ]


def _check_machine() -> None:
    if shutil.which("mmdebstrap") is None:
        raise LackingError("a base image is made with mmdebstrap, which is missing; run: apt-get install mmdebstrap")
    if os.geteuid() != 0 and shutil.which("newuidmap") is None:
        raise LackingError("mmdebstrap needs root, or user namespaces; run as root, or: apt-get install uidmap")


@contextlib.contextmanager
def _debian(command: list[str], output: Output) -> Iterator[Iterator[bytes]]:
    """The archive's chunks. A failure raises amid them, so that half an archive never becomes an image."""
    tail: deque[str] = deque(maxlen=_TAIL)
    # As root mmdebstrap mounts /proc and /sys below its folder. In a mount namespace of its own these end
    # with it even when it is killed, and the folder can be removed without reaching into them.
    apart = ["unshare", "--mount", "--"] if os.geteuid() == 0 else []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("cpr-base-image-"))
        folder.chmod(0o755)  # apt works there as a user of its own
        process = stack.enter_context(
            subprocess.Popen(
                [*apart, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "TMPDIR": str(folder)},
                start_new_session=True,
            )
        )
        assert process.stdout is not None
        assert process.stderr is not None
        reader = threading.Thread(target=_relay, args=(process.stderr, output, tail), daemon=True)
        reader.start()
        with guarded(process):
            yield _chunks(process, process.stdout, reader, tail)
        reader.join()


def _chunks(
    process: subprocess.Popen[bytes], stdout: IO[bytes], reader: threading.Thread, tail: deque[str]
) -> Iterator[bytes]:
    while chunk := stdout.read(_CHUNK):
        yield chunk
    reader.join()
    if process.wait() != 0:
        raise BuildError(f"mmdebstrap {RELEASE}", tuple(tail))


def _relay(stderr: IO[bytes], output: Output, tail: deque[str]) -> None:
    for raw in stderr:
        line = raw.decode("utf-8", "replace").rstrip()
        tail.append(line)
        output(line)
