"""Image contexts for both engines, with the test server as their code."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

SERVER = Path(__file__).parent / "server.py"
DOCKERFILE = """\
FROM python:3.11-slim
ENV COLOUR=blue PYTHONUNBUFFERED=1
WORKDIR /app
COPY code/ ./
EXPOSE 8080
ENTRYPOINT ["python", "server.py"]
CMD ["from-cmd"]
"""


def write_wheel(folder: Path, name: str = "tiny", requires: tuple[str, ...] = (), body: str = "VALUE = 1\n") -> Path:
    """A wheel of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + "".join(
        f"Requires-Dist: {r}\n" for r in requires
    )
    metadata += "Provides-Extra: extra\n"
    wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    names = (f"{name}.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
    record = "".join(f"{entry},,\n" for entry in names)
    with zipfile.ZipFile(path, "w") as archive:
        for entry, text in zip(names, (body, metadata, wheel, record), strict=True):
            archive.writestr(zipfile.ZipInfo(entry, (2020, 1, 1, 0, 0, 0)), text)
    return path


def write_context(folder: Path, *, requirements: str = "", requires: tuple[str, ...] = ()) -> Path:
    """An image context for both engines, with the test server as its code."""
    kit = write_wheel(folder / "kit", requires=requires)
    (folder / "requirements").mkdir()
    (folder / "requirements" / "requirements.txt").write_text(requirements)
    (folder / "code").mkdir()
    (folder / "code" / "server.py").write_text(SERVER.read_text())
    (folder / "Dockerfile").write_text(DOCKERFILE)
    manifest = {
        "kit": f"kit/{kit.name}",
        "dependencies": list(requires),
        "requirements": "requirements/requirements.txt",
        "lock": None,
        "extra_packages": [],
        "code": "code",
        "env": {"COLOUR": "blue"},
        "entrypoint": ["python", "server.py"],
        "ports": [8080],
    }
    (folder / "image.json").write_text(json.dumps(manifest))
    return folder
