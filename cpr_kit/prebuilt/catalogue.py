"""Vertex AI's prebuilt images for predictions: which there are, where they are, and what each one loads and answers.

What is available: "Prebuilt containers for prediction", as of August 2026. The older ones: google-cloud-aiplatform 2.7
(constants/prediction.py), whose list a test compares. Routes, ports and instances: vertex-ai-samples, named at each.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpr_kit.contract import DEFAULT_PORT, ContainerSpec
from cpr_kit.errors import ConfigError

SOURCE = "https://cloud.google.com/vertex-ai/docs/predictions/pre-built-containers"
READ = "2026-08"
OLDER_END = "2027-01-14"
"""By then most images that are no longer listed end."""

_HOST = "-docker.pkg.dev"
_PLACES = ("us", "europe", "asia")
_NEAREST = {
    "africa": "asia",
    "australia": "asia",
    "me-central1": "asia",
    "me-central2": "asia",
    "me-west1": "europe",
    "northamerica": "us",
    "southamerica": "us",
}
"""Of regions that have no host of their own, by region or continent: the nearest of the three."""
_REFERENCE = re.compile(
    r"(?P<place>[a-z]+)-docker\.pkg\.dev/vertex-ai(?P<restricted>-restricted)?/prediction/"
    r"(?P<name>[^:@/]+)(:(?P<tag>[^@]+))?(?P<digest>@.+)?"
)
_NAME = re.compile(r"(?P<family>[a-z0-9_]+)-(?P<accelerator>cpu|gpu|tpu)\.(?P<version>[0-9a-z-]+)")
_TAG = "latest"
_HINTS = 3
_NEAR = 2


@dataclass(frozen=True, kw_only=True)
class Framework:
    """What the images of one framework have in common. A route that is None is not documented: Vertex AI sets it."""

    name: str
    title: str
    files: tuple[str, ...]
    """Of these names the folder of artifacts has one ("Export model artifacts", and Model.upload of the SDK)."""
    port: int = DEFAULT_PORT
    predict_route: str | None = None
    health_route: str | None = None
    instance_key: str | None = None
    """Each instance is an object with the value under this key."""


TENSORFLOW = Framework(
    name="tensorflow",
    title="TensorFlow",
    files=("saved_model.pb", "saved_model.pbtxt"),
    # bert_optimized_online_prediction and tabular_optimized_online_prediction
    predict_route="/v1/models/default:predict",
    health_route="/v1/models/default",
)
PYTORCH = Framework(
    name="pytorch",
    title="PyTorch",
    files=("model.mar",),
    # pytorch_image_classification_with_prebuilt_serving_containers
    predict_route="/predictions/model",
    health_route="/ping",
    instance_key="data",
)
SKLEARN = Framework(name="sklearn", title="scikit-learn", files=("model.joblib", "model.pkl"))
XGBOOST = Framework(name="xgboost", title="XGBoost", files=("model.bst", "model.joblib", "model.pkl"))

FRAMEWORKS = (TENSORFLOW, PYTORCH, SKLEARN, XGBOOST)
_ALSO = {"tf": TENSORFLOW, "tf2": TENSORFLOW, "torch": PYTORCH, "scikit-learn": SKLEARN, "scikit_learn": SKLEARN}


@dataclass(frozen=True, kw_only=True)
class Prebuilt:
    """One image. `version` is the framework's, "2.15"; `name` is the image's: "tf2-cpu.2-15"."""

    name: str
    framework: Framework
    accelerator: str
    version: str
    listed: bool
    """Whether it is among those that are available now; else it is an older one, see `OLDER_END`."""
    restricted: bool = False
    """The optimized TensorFlow runtime, whose images are in another project than the rest."""
    python: str | None = None
    supported_until: str | None = None
    available_until: str | None = None

    def uri(self, region: str) -> str:
        """At the host nearest to a region, always by the tag "latest"."""
        project = "vertex-ai-restricted" if self.restricted else "vertex-ai"
        return f"{host(region)}/{project}/prediction/{self.name}:{_TAG}"

    def spec(self, region: str) -> ContainerSpec:
        """The image alone: it brings its own start, and Vertex AI its routes and its port."""
        return ContainerSpec(image_uri=self.uri(region))

    def instances(self, values: Sequence[Any]) -> list[Any]:
        """Values as this image's instances: for PyTorch each is `{"data": value}`; what is so already stays.

        >>> find("pytorch-cpu.2-4").instances([[1.0, 2.0]])
        [{'data': [1.0, 2.0]}]
        """
        key = self.framework.instance_key
        if key is None:
            return list(values)
        return [each if isinstance(each, Mapping) and set(each) == {key} else {key: each} for each in values]


_LISTED: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("tf2", ("cpu", "gpu"), ("2-15", "2-14")),
    ("tf_opt", ("cpu", "gpu", "tpu"), ("nightly", "2-17")),
    ("pytorch", ("cpu", "gpu", "tpu"), ("2-4", "2-3", "2-2")),
    ("sklearn", ("cpu",), ("1-6", "1-5", "1-4")),
    ("xgboost", ("cpu",), ("2-1", "2-0")),
)
_OLDER: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("tf2", ("cpu", "gpu"), tuple(f"2-{minor}" for minor in range(13, 0, -1))),
    ("tf", ("cpu", "gpu"), ("1-15",)),
    ("pytorch", ("cpu", "gpu"), ("2-1", "2-0", "1-13", "1-12", "1-11")),
    ("sklearn", ("cpu",), ("1-3", "1-2", "1-0", "0-24", "0-23", "0-22", "0-20")),
    ("xgboost", ("cpu",), ("1-7", "1-6", "1-5", "1-4", "1-3", "1-2", "1-1", "0-90", "0-82")),
)
_FAMILIES = {
    "tf": TENSORFLOW,
    "tf2": TENSORFLOW,
    "tf_opt": TENSORFLOW,
    "pytorch": PYTORCH,
    "sklearn": SKLEARN,
    "xgboost": XGBOOST,
}
_KNOWN_OF: dict[str, dict[str, str]] = {
    "sklearn-cpu.1-6": {"python": "3.10", "supported_until": "2026-10-14", "available_until": "2027-10-14"},
    **{f"pytorch-{kind}.{version}": {"python": "3.9"} for kind in ("cpu", "gpu", "tpu") for version in ("2-4", "2-3")},
    **{f"pytorch-{kind}.2-2": {"python": "3.9"} for kind in ("cpu", "gpu", "tpu")},
}
ALPHA = "tensorflow-enterprise-inference-engine-alpha"
"""The optimized TensorFlow runtime under the name it had in 2022."""


def _made() -> Iterator[Prebuilt]:
    for listed, table in ((True, _LISTED), (False, _OLDER)):
        for family, accelerators, versions in table:
            for accelerator in accelerators:
                for version in versions:
                    name = f"{family}-{accelerator}.{version}"
                    yield Prebuilt(
                        name=name,
                        framework=_FAMILIES[family],
                        accelerator=accelerator,
                        version=version.replace("-", "."),
                        listed=listed,
                        restricted=family == "tf_opt",
                        **_KNOWN_OF.get(name, {}),
                    )
    yield Prebuilt(name=ALPHA, framework=TENSORFLOW, accelerator="cpu", version="alpha", listed=False, restricted=True)


IMAGES: Mapping[str, Prebuilt] = {each.name: each for each in _made()}


def find(name: str) -> Prebuilt:
    """An image by its name, with or without its place and tag. Raises ConfigError with those that may be meant."""
    parsed = parse(name) if "/" in name else None
    if parsed is not None:
        return parsed
    bare = name.removesuffix(f":{_TAG}")
    if bare in IMAGES:
        return IMAGES[bare]
    raise ConfigError(f'"{name}" is none of Vertex AI\'s prebuilt images; {_hint(bare)}')


def is_prebuilt(image: str) -> bool:
    """Whether an image is named at Vertex AI's own repositories: what holds for custom images does not hold for it."""
    return _REFERENCE.fullmatch(image) is not None


def parse(image: str) -> Prebuilt | None:
    """The image that a whole reference names; None for one that is not in Vertex AI's repositories.

    Raises ConfigError for a host, a name or a tag that is not there.
    """
    found = _REFERENCE.fullmatch(image)
    if found is None:
        return None
    if found["place"] not in _PLACES:
        raise ConfigError(
            f"the image {image} is at {found['place']}{_HOST}; Vertex AI's prebuilt images are at "
            f"{', '.join(f'{place}{_HOST}' for place in _PLACES)} alone"
        )
    prebuilt = IMAGES.get(found["name"])
    if prebuilt is None or prebuilt.restricted != bool(found["restricted"]):
        shown = IMAGES.get(found["name"])
        hint = f"it is {shown.uri(found['place'])}" if shown else _hint(found["name"])
        raise ConfigError(f"the image {image} is none of Vertex AI's prebuilt images; {hint}")
    if found["digest"] or found["tag"] not in {None, _TAG}:
        has = "a digest" if found["digest"] else f"the tag {found['tag']}"
        raise ConfigError(
            f"the image {image} has {has}; prebuilt images are named by the tag {_TAG} alone: "
            f"{prebuilt.uri(found['place'])}"
        )
    return prebuilt


def for_framework(framework: str, version: str, accelerator: str = "cpu") -> Prebuilt:
    """An image by what is in it. Raises ConfigError with the frameworks, or versions, that there are.

    >>> for_framework("tensorflow", "2.5").uri("us-central1")
    'us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-5:latest'
    """
    named = _framework(framework)
    wanted = version.replace("-", ".")
    all_of = [each for each in IMAGES.values() if each.framework is named and not each.restricted]
    on = [each for each in all_of if each.accelerator == accelerator]
    if not on:
        kinds = " or ".join(dict.fromkeys(each.accelerator for each in all_of))
        raise ConfigError(f'there is no prebuilt {named.title} image for "{accelerator}"; write {kinds}')
    # A version of the framework has patches, which the images do not tell apart: 2.5.3 is in 2.5.
    for each in on:
        if wanted == each.version or wanted.startswith(f"{each.version}."):
            return each
    listed = ", ".join(each.version for each in on if each.listed)
    near = _near(wanted, [each.version for each in on])
    older = f"older ones are {', '.join(each.version for each in on if not each.listed)}"
    hint = f"near it are {', '.join(near)}; " if near else ""
    raise ConfigError(
        f'there is no prebuilt {named.title} image of version "{version}" for {accelerator}; {hint}'
        f"available are {listed or 'none'}; {older}"
    )


def _near(wanted: str, versions: Sequence[str]) -> list[str]:
    """Versions by their distance from one, the nearest first; none where it is no number."""
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4})*", wanted):
        return []

    def parts(version: str) -> tuple[int, int]:
        major, _, rest = version.partition(".")
        return int(major), int(rest.partition(".")[0] or 0)

    major, minor = parts(wanted)
    return sorted(versions, key=lambda each: (abs(parts(each)[0] - major), abs(parts(each)[1] - minor)))[:_NEAR]


def _framework(name: str) -> Framework:
    written = name.strip().lower()
    known = {each.name: each for each in FRAMEWORKS} | _ALSO
    if written in known:
        return known[written]
    near = difflib.get_close_matches(written, known, 1)
    names = ", ".join(each.name for each in FRAMEWORKS)
    meant = f"did you mean {known[near[0]].name}? " if near else ""
    raise ConfigError(f'there is no prebuilt image for "{name}"; {meant}There are some for {names}')


def host(region: str) -> str:
    """Where the prebuilt images nearest to a region are: the hosts are us, europe and asia alone."""
    continent = region.partition("-")[0]
    place = continent if continent in _PLACES else _NEAREST.get(region) or _NEAREST.get(continent)
    if place is None:
        raise ConfigError(f'"{region}" is no region of Vertex AI; name one, such as "us-central1"')
    return place + _HOST


def in_region(image: str, region: str) -> str:
    """The same prebuilt image at the host nearest to another region. Raises ConfigError."""
    return find(image).uri(region)


def identity(image: str) -> str:
    """What tells one prebuilt image from another where a custom image has its digest: Vertex AI names no digest."""
    return f"prebuilt:{re.sub(r'[^a-z0-9_-]', '_', find(image).name)}"


def warnings(prebuilt: Prebuilt) -> Iterator[str]:
    """What one may regret about an image, though Vertex AI still takes it."""
    if prebuilt.available_until or prebuilt.listed:
        if prebuilt.supported_until:
            yield (
                f"{prebuilt.name} is supported until {prebuilt.supported_until}, and available until "
                f"{prebuilt.available_until}"
            )
        return
    now = _newest(prebuilt)
    yield (
        f"{prebuilt.name} is an older image, and most of those end by {OLDER_END} (as of {READ})"
        + (f"; available now: {', '.join(now)}" if now else "")
    )


def _newest(prebuilt: Prebuilt) -> list[str]:
    return [
        each.name
        for each in IMAGES.values()
        if each.listed
        and each.framework is prebuilt.framework
        and each.accelerator == prebuilt.accelerator
        and each.restricted == prebuilt.restricted
    ]


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), IMAGES, _HINTS)
    parts = _NAME.fullmatch(name)
    if not near and parts:
        near = [each for each in IMAGES if each.startswith(parts["family"])][:_HINTS]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"available are {', '.join(each.name for each in IMAGES.values() if each.listed)}"
