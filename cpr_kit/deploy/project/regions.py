"""Where Vertex AI serves, and which registry host belongs to which region.

The regions are those of google-cloud-aiplatform 2.7 (constants/base.py, SUPPORTED_REGIONS), less "global", which has no
machines to deploy to; a test compares. Places are those of Google's list of locations, to the nearest city.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence

from cpr_kit.errors import ConfigError

PLACES: dict[str, tuple[float, float]] = {
    "africa-south1": (-26.2, 28.0),
    "asia-east1": (24.1, 120.5),
    "asia-east2": (22.3, 114.2),
    "asia-northeast1": (35.7, 139.7),
    "asia-northeast2": (34.7, 135.5),
    "asia-northeast3": (37.6, 127.0),
    "asia-south1": (19.1, 72.9),
    "asia-south2": (28.6, 77.2),
    "asia-southeast1": (1.3, 103.8),
    "asia-southeast2": (-6.2, 106.8),
    "australia-southeast1": (-33.9, 151.2),
    "australia-southeast2": (-37.8, 145.0),
    "europe-central2": (52.2, 21.0),
    "europe-north1": (60.6, 27.1),
    "europe-north2": (59.3, 18.1),
    "europe-southwest1": (40.4, -3.7),
    "europe-west1": (50.5, 3.8),
    "europe-west12": (45.1, 7.7),
    "europe-west2": (51.5, -0.1),
    "europe-west3": (50.1, 8.7),
    "europe-west4": (53.4, 6.8),
    "europe-west6": (47.4, 8.5),
    "europe-west8": (45.5, 9.2),
    "europe-west9": (48.9, 2.4),
    "me-central1": (25.3, 51.5),
    "me-central2": (26.4, 50.1),
    "me-west1": (32.1, 34.8),
    "northamerica-northeast1": (45.5, -73.6),
    "northamerica-northeast2": (43.7, -79.4),
    "southamerica-east1": (-23.5, -46.6),
    "southamerica-west1": (-33.4, -70.7),
    "us-central1": (41.3, -95.9),
    "us-east1": (33.2, -80.0),
    "us-east4": (39.0, -77.5),
    "us-east5": (40.0, -83.0),
    "us-east7": (34.9, -85.7),
    "us-south1": (32.8, -96.8),
    "us-west1": (45.6, -121.2),
    "us-west2": (34.1, -118.2),
    "us-west3": (40.8, -111.9),
    "us-west4": (36.2, -115.1),
    "us-west8": (33.4, -111.9),
}
"""Latitude and longitude in degrees."""

REGIONS = tuple(PLACES)
MULTI_REGIONS = ("us", "europe", "asia")
"""Repositories of several regions; Vertex AI's prebuilt images are at these alone ("Prebuilt containers")."""

_HOST = "-docker.pkg.dev"
_CONTAINER_REGISTRY = re.compile(r"([a-z]+\.)?gcr\.io")
_LEAST_PARTS = 3
_HINTS = 3


def check(region: str) -> None:
    """Raises ConfigError for what is no region of Vertex AI, with the region that was probably meant."""
    if region in PLACES:
        return
    zone = re.fullmatch(r"(.+[0-9])-[a-z]", region)
    if zone and zone[1] in PLACES:
        raise ConfigError(f'"{region}" is a zone; its region is "{zone[1]}"')
    if region == "global":
        raise ConfigError('"global" has no machines to deploy a model to; name a region, such as "us-central1"')
    raise ConfigError(f'"{region}" is no region of Vertex AI; {_hint(region)}')


def _hint(region: str) -> str:
    written = re.sub(r"[\s_]+", "-", region.strip().lower())
    close = [each for each in REGIONS if written and each.startswith(written)]
    close = close or difflib.get_close_matches(written, REGIONS, _HINTS)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(REGIONS)}"


def repository_host(region: str) -> str:
    """The host of a region's repositories: "europe-west4-docker.pkg.dev"."""
    return region + _HOST


def region_of(image: str) -> str | None:
    """The region of the repository that an image is named in; None for one that is in no region's."""
    host = image.partition("/")[0]
    place = host.removesuffix(_HOST)
    return place if host.endswith(_HOST) and place not in MULTI_REGIONS else None


def check_image(image: str, region: str) -> None:
    """Raises ConfigError for an image that models of this region may not use.

    It must be in Artifact Registry, in the region of the model; repositories of several regions are not accepted for
    custom images ("Custom container requirements for inference").
    """
    its_own = region_of(_regional(image, region))
    if its_own != region:
        raise ConfigError(
            f"the image {image} is in {its_own}, and the model in {region}; Vertex AI wants both in one region: "
            f"name it {in_region(image, region)}"
        )


def in_region(image: str, region: str) -> str:
    """The name of an image in the like repository of another region.

    >>> in_region("us-central1-docker.pkg.dev/p/r/iris:1", "europe-west4")
    'europe-west4-docker.pkg.dev/p/r/iris:1'

    Raises ConfigError for a name that is in no region's repository.
    """
    return f"{repository_host(region)}/{_regional(image, region).partition('/')[2]}"


def _regional(image: str, region: str) -> str:
    """`image`, which is in some region's repository. Raises ConfigError with the name it should have in `region`."""
    host, _, path = image.partition("/")
    example = f"{repository_host(region)}/PROJECT/REPOSITORY/{image.rpartition('/')[2]}"
    if _CONTAINER_REGISTRY.fullmatch(host):
        raise ConfigError(
            f"the image {image} has a name of Container Registry, which is shut down; name it in a repository of "
            f"Artifact Registry in the region, {example}, and copy it: cpr mirror {image} --to {example}"
        )
    if not host.endswith(_HOST):
        raise ConfigError(
            f"the image {image} is not in Artifact Registry, where Vertex AI takes custom images from; "
            f"name it {example}, in [image] name"
        )
    place = host.removesuffix(_HOST)
    if place in MULTI_REGIONS:
        raise ConfigError(
            f"the image {image} is in a repository of several regions, which Vertex AI does not take for custom "
            f"images; name it {repository_host(region)}/{path}"
        )
    if place not in PLACES:
        raise ConfigError(f'the image {image} is in "{place}", which is no region of Vertex AI; {_hint(place)}')
    parts = path.split("/")
    if len(parts) < _LEAST_PARTS or not all(parts):
        raise ConfigError(f"the image {image} names no repository; it is written {example}")
    return image


def nearest(region: str, among: Sequence[str]) -> list[str]:
    """Regions by their distance over the earth from `region`; equally far ones stay in the order given."""
    for each in (region, *among):
        check(each)
    return sorted(among, key=lambda each: _angle(PLACES[region], PLACES[each]))


def _angle(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The angle between two places as seen from the centre of the earth (haversine formula)."""
    (lat1, lon1), (lat2, lon2) = (tuple(map(math.radians, place)) for place in (one, other))
    half = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * math.asin(min(1.0, math.sqrt(half)))
