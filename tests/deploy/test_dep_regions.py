import pytest
from google.cloud.aiplatform.constants import base as constants
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.deploy.project import regions
from cpr_kit.prebuilt import catalogue
from cpr_kit.errors import ConfigError

PATHS = st.from_regex(r"[a-z][a-z0-9-]{5,10}/[a-z]{1,8}/[a-z]{1,8}(/[a-z]{1,8})?(:[a-z0-9.]{1,8})?", fullmatch=True)
REGIONS = st.sampled_from(regions.REGIONS)


def test_the_regions_are_those_of_the_installed_sdk():
    assert set(regions.REGIONS) == constants.SUPPORTED_REGIONS - {"global"}


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("europe-west", "europe-west4"),
        ("us-central1-a", '"us-central1-a" is a zone; its region is "us-central1"'),
        ("US_CENTRAL1", "did you mean us-central1?"),
        ("us-cental1", "did you mean us-central1"),
        ("global", "has no machines"),
        ("", "known are africa-south1"),
        ("moon", "known are africa-south1"),
        ("us", "did you mean us-central1"),
    ],
)
def test_what_is_no_region_is_refused_with_the_one_that_was_meant(region, message):
    with pytest.raises(ConfigError) as error:
        regions.check(region)
    assert message in str(error.value)


@given(path=PATHS, there=REGIONS, here=REGIONS)
def test_an_image_goes_to_any_region_and_back(path, there, here):
    image = f"{regions.repository_host(here)}/{path}"
    moved = regions.in_region(image, there)
    assert moved == f"{there}-docker.pkg.dev/{path}"
    assert regions.region_of(moved) == there
    assert regions.in_region(moved, here) == image
    regions.check_image(moved, there)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("iris", "us-central1-docker.pkg.dev/PROJECT/REPOSITORY/iris"),
        ("iris:1", "us-central1-docker.pkg.dev/PROJECT/REPOSITORY/iris:1"),
        ("docker.io/me/iris:1", "is not in Artifact Registry"),
        ("127.0.0.1:5000/p/r/iris:1", "is not in Artifact Registry"),
        ("gcr.io/p/iris:1", "cpr mirror gcr.io/p/iris:1 --to us-central1-docker.pkg.dev/PROJECT/REPOSITORY/iris:1"),
        ("eu.gcr.io/p/iris", "Container Registry, which is shut down"),
        ("us-docker.pkg.dev/p/r/iris:1", "several regions, which Vertex AI does not take"),
        ("us-docker.pkg.dev/p/r/iris:1", "name it us-central1-docker.pkg.dev/p/r/iris:1"),
        (
            "us-cental1-docker.pkg.dev/p/r/iris",
            'is in "us-cental1", which is no region of Vertex AI; did you mean us-c',
        ),
        ("us-central1-docker.pkg.dev/p/iris", "names no repository"),
        ("us-central1-docker.pkg.dev/p//iris", "names no repository"),
        ("us-central1-docker.pkg.dev", "names no repository"),
    ],
)
def test_an_image_that_is_in_no_regions_repository_is_refused_with_the_name_it_should_have(image, message):
    for ask in (regions.in_region, regions.check_image):
        with pytest.raises(ConfigError) as error:
            ask(image, "us-central1")
        assert message in str(error.value)


def test_an_image_of_another_region_is_refused_with_its_name_here():
    with pytest.raises(ConfigError) as error:
        regions.check_image("europe-west4-docker.pkg.dev/p/r/iris:1", "us-central1")
    assert "is in europe-west4, and the model in us-central1" in str(error.value)
    assert "us-central1-docker.pkg.dev/p/r/iris:1" in str(error.value)


@given(image=st.text(max_size=80), region=REGIONS)
def test_any_name_is_moved_or_refused(image, region):
    try:
        moved = regions.in_region(image, region)
    except ConfigError:
        return
    regions.check_image(moved, region)


def test_only_a_regions_own_repository_has_a_region():
    assert regions.region_of("europe-west4-docker.pkg.dev/p/r/i") == "europe-west4"
    assert regions.region_of("us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest") is None
    assert regions.region_of("gcr.io/p/i") is None


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-central1", "us"),
        ("europe-west4", "europe"),
        ("asia-east1", "asia"),
        ("australia-southeast1", "asia"),
        ("southamerica-east1", "us"),
        ("northamerica-northeast1", "us"),
        ("me-west1", "europe"),
        ("me-central1", "asia"),
    ],
)
def test_prebuilt_images_are_at_the_nearest_of_three_hosts(region, host):
    assert catalogue.host(region) == f"{host}-docker.pkg.dev"


def test_every_region_has_a_host_for_prebuilt_images():
    hosts = {catalogue.host(region) for region in regions.REGIONS}
    assert hosts == {"us-docker.pkg.dev", "europe-docker.pkg.dev", "asia-docker.pkg.dev"}


def test_regions_are_sorted_by_distance():
    among = ["us-central1", "asia-east1", "europe-west4", "europe-west1"]
    assert regions.nearest("europe-west3", among) == ["europe-west1", "europe-west4", "us-central1", "asia-east1"]
    # Across the date line it is near: Tokyo is nearer to Oregon than to Warsaw.
    assert regions.nearest("asia-northeast1", ["europe-central2", "us-west1"]) == ["us-west1", "europe-central2"]
    with pytest.raises(ConfigError):
        regions.nearest("europe-west3", ["europe-west"])


@given(region=REGIONS, among=st.lists(REGIONS, unique=True))
def test_a_region_is_nearest_to_itself_and_none_is_lost(region, among):
    found = regions.nearest(region, among)
    assert sorted(found) == sorted(among)
    assert region not in among or found[0] == region


def test_every_place_is_on_the_earth():
    for latitude, longitude in regions.PLACES.values():
        assert -60 < latitude < 75
        assert -180 <= longitude <= 180
