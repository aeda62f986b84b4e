"""What a Python program finds out inside a container of the docker engine, as the image's user, by its Python."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from cpr_kit.engine.protocol import Container
from cpr_kit.errors import ContainerError, MissingExtra

MEMORY = """
import os, pathlib, re
total = 0
for each in pathlib.Path("/proc").iterdir():
    if each.name.isdigit() and int(each.name) != os.getpid():
        try:
            found = re.search(r"^Pss:\\s+(\\d+)", (each / "smaps_rollup").read_text(), re.MULTILINE)
        except OSError:
            continue
        total += int(found[1]) if found else 0
print(total / 1024)
"""
"""Prints the MB of all processes, pages that several share counted once (PSS); 0 where the kernel does not tell."""


def ask(container: Container, program: str, environ: Mapping[str, str] = os.environ) -> str:
    """What the program prints. Raises ContainerError with its words where it fails."""
    try:
        import docker
    except ImportError as error:
        raise MissingExtra("docker", "docker") from error
    with contextlib.closing(docker.from_env(environment=dict(environ))) as client:
        try:
            done = client.containers.get(container.id).exec_run(["python", "-c", program])
        except docker.errors.APIError as error:
            raise ContainerError(f"nothing can be asked inside the container: {error.explanation or error}") from error
    assert isinstance(done.output, bytes)
    words = done.output.decode("utf-8", "replace").strip()
    if done.exit_code:
        raise ContainerError(f"python inside the container ended with exit code {done.exit_code}: {words[-300:]}")
    return words
