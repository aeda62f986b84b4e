"""A virtual environment for each server under benchmarks/.envs, made when it is first wanted."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".envs"


class NotHere(Exception):
    """A server that does not install or does not start on this machine; the text is the reason, for the report."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """`packages` are pip's arguments; `shown` are the distributions whose versions the report names."""

    name: str
    packages: tuple[str, ...]
    shown: tuple[str, ...]

    @property
    def python(self) -> Path:
        return FOLDER / self.name / "bin" / "python"

    def prepare(self) -> None:
        """Raises NotHere with pip's last words."""
        folder, wanted = FOLDER / self.name, self.stamp()
        ready = folder / "ready"
        if ready.exists() and ready.read_text() == wanted:
            return
        print(f"making {folder.relative_to(HERE.parent)}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / ".gitignore").write_text("*\n")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        run = [self.python, "-m", "pip", "install", "--quiet", *self.packages]
        done = subprocess.run(run, cwd=HERE.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotHere("pip: " + " ".join(done.stderr.split())[-300:])
        ready.write_text(wanted)

    def stamp(self) -> str:
        """Changes with what is asked for; that of this checkout is what its pyproject.toml asks for."""
        own = (HERE.parent / "pyproject.toml").read_bytes() if "--editable" in self.packages else b""
        return "\n".join((*self.packages, hashlib.sha256(own).hexdigest()))

    def versions(self) -> str:
        """Of those of `shown` that are installed."""
        code = (
            "import importlib.metadata as m, sys; here = {d.name.lower(): d.version for d in m.distributions()};"
            "print(*(f'{name} {here[name]}' for name in sys.argv[1:] if name in here), sep=', ')"
        )
        run = [self.python, "-c", code, *self.shown]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
