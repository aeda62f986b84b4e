"""A project's folder for the tests of the Python API and of the commands: an image of dep_world under a cpr.toml."""

import json
from contextlib import contextmanager

import requests
from dep_world import CHECK, image

from cpr_kit.config import Config

REGIONS = ("us-central1", "europe-west4", "asia-east1")


def write(folder, project, *, kind="one", regions=REGIONS[:1], more=""):
    """The Config that is read from it, with what stands in `more` under [deploy]."""
    folder.mkdir(exist_ok=True)
    (folder / "rows.json").write_bytes(CHECK.body)
    (folder / "sums.json").write_bytes(CHECK.expected)
    (folder / "cpr.toml").write_text(
        f"""
        [image]
        name = "{image(kind)}"
        [deploy]
        project = "{project}"
        regions = {json.dumps(list(regions))}
        endpoint = "iris"
        {more}
        [[check]]
        request = "rows.json"
        expect = "sums.json"
        """
    )
    return Config.read(folder, environ={})


@contextmanager
def fault(emulator, **fields):
    """A fault of the emulator's for as long as the block lasts."""
    url = f"{emulator.url}/emulator/faults"
    requests.post(url, json=fields, timeout=30).raise_for_status()
    try:
        yield
    finally:
        requests.delete(url, timeout=30).raise_for_status()
