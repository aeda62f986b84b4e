"""`make demo`: train iris, build the image, run it as Vertex AI would, ask it, check the answer.

At the end a program for the real service, on_vertex.py, pushes, uploads, deploys and asks it under `cpr emulate`.
In a container where an engine answers, through the process engine where none does. Leaves nothing running.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parent / "sklearn_preprocessor"
PROGRAM = Path(__file__).with_name("on_vertex.py")
IMAGE = "us-central1-docker.pkg.dev/my-project/models/cpr-demo-iris"
CPR = (sys.executable, "-m", "cpr_kit")
EXPECTED = {"predictions": ["versicolor", "setosa"]}


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cpr-demo-") as folder:
        project = Path(folder) / "cpr-demo-iris"
        shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("model", "__pycache__"))
        engine = choose_engine(project)
        step("train a random forest on iris", [sys.executable, "train.py"], project)
        step("build the image", [*CPR, "build", ".", "--engine", engine], project)
        asked = [*CPR, "predict", ".", "--json", "requests/two_rows.json", "--engine", engine]
        answer = json.loads(step("run it and ask for two predictions", asked, project))
        step("check it against Vertex AI's rules", [*CPR, "check", ".", "--engine", engine], project)
        emulated = on_vertex(project, engine)
    print(f"\nanswers:  {json.dumps(answer)}, {json.dumps(emulated)}\nexpected: {json.dumps(EXPECTED)}")
    print(f"total:    {time.monotonic() - began:.1f} s")
    return 0 if answer == emulated == EXPECTED else 1


def on_vertex(project: Path, engine: str) -> object:
    """The answer that a program of google-cloud-aiplatform gets from the image under the emulator."""
    from cpr_kit.engine.choose import choose

    step("give it its name at Artifact Registry", [*CPR, "build", ".", "-t", IMAGE, "--engine", engine], project)
    try:
        program = [sys.executable, str(PROGRAM), IMAGE, "model/", "requests/two_rows.json"]
        command = [*CPR, "emulate", "--engine", engine, "--", *program]
        said = step("push, upload, deploy and ask it with Google's SDK under the emulator", command, project)
        # Between the lines that Google's SDK prints of its own accord.
        return next(json.loads(line) for line in said.splitlines() if line.startswith('{"predictions"'))
    finally:
        choose(engine).engine.remove_image(IMAGE)


def choose_engine(project: Path) -> str:
    """The engine that works here; a base image is made where an engine answers and no registry does."""
    from cpr_kit.config import Config
    from cpr_kit.engine.choose import choose

    choice = choose()
    print(choice.reason, flush=True)
    base = Config.read(project).image.base
    if choice.engine.name == "process" or choice.engine.image(base):
        return choice.engine.name
    client = shutil.which("docker")
    if client and subprocess.run([client, "pull", "--quiet", base], capture_output=True, check=False).returncode == 0:
        return "docker"
    if shutil.which("mmdebstrap"):
        step(f"make the base image {base} (no registry answers)", [*CPR, "base", base], project)
        return "docker"
    print(f"process: {base} can be neither pulled nor made here (apt-get install mmdebstrap would do)", flush=True)
    return "process"


def step(title: str, command: list[str], folder: Path) -> str:
    """Run one step, show its time, and give back what it printed."""
    print(f"\n-- {title}\n   $ {shown(command)}", flush=True)
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout.rstrip(), flush=True)
    print(f"   {time.monotonic() - began:.1f} s", flush=True)
    if done.returncode:
        sys.exit(f"{title}: exit code {done.returncode}")
    return done.stdout


def shown(command: list[str]) -> str:
    words = ["cpr", *command[3:]] if tuple(command[:3]) == CPR else command
    return " ".join({sys.executable: "python", str(PROGRAM): PROGRAM.name}.get(word, word) for word in words)


if __name__ == "__main__":
    sys.exit(main())
