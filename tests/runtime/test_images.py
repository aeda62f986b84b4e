"""Images in requests: every kind of file and array is right, or refused with its place and reason."""

import base64
import io
import itertools
import json
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from cpr_kit import ImagePreprocessor, RequestError, StartError
from cpr_kit.contract import MAX_BODY
from cpr_kit.errors import UsageError
from cpr_kit.images import TooLarge, b64_image
from cpr_kit.runtime import pixels

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)
EXACT = {"size": (6, 9), "scale": 1}  # a file's pixels as they are


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def decoded(data, **options):
    return ImagePreprocessor(**{**EXACT, **options})({"instances": [b64(data)]})[0]


def noise(mode, depth):
    return Image.frombytes(mode, (9, 6), RANDOM.bytes(6 * 9 * depth))


FILE = encoded(Image.fromarray(COLOURS))
SMOOTH = Image.fromarray(COLOURS).resize((64, 48), Image.Resampling.BICUBIC)
JPEG = encoded(SMOOTH, "JPEG")
PLAIN = {"size": (48, 64), "scale": 1}


@pytest.mark.parametrize(
    "instance",
    [b64(FILE), {"bytes_inputs": b64(FILE)}, FILE, bytearray(FILE), COLOURS.tolist(), COLOURS, COLOURS.astype(float)],
    ids=["b64", "named", "file", "bytearray", "lists", "array", "floats"],
)
def test_each_form_of_an_instance_gives_the_same_pixels(instance):
    found = ImagePreprocessor(**EXACT)({"instances": [instance, b64(FILE)]})
    assert found.dtype == np.float32
    assert found.shape == (2, 6, 9, 3)
    assert np.array_equal(found[0], COLOURS)
    assert np.array_equal(found[1], COLOURS)


def test_a_batch_of_arrays_is_taken_whole():
    assert np.array_equal(ImagePreprocessor(**EXACT)({"instances": np.stack([COLOURS] * 3)}), [COLOURS] * 3)


def test_scale_comes_before_mean_and_std_and_layout_is_last():
    found = decoded(FILE, scale=1 / 255, mean=(0.4, 0.5, 0.6), std=0.25, layout="chw")
    assert found.shape == (3, 6, 9)
    expected = (COLOURS / 255 - (0.4, 0.5, 0.6)) / 0.25
    assert np.abs(found - expected.transpose(2, 0, 1)).max() < 1e-5


def test_resizing_is_linear_between_the_centres_of_pixels():
    """2 x 2 to 4 x 4 by hand: centres lie at -0.25, 0.25, 0.75 and 1.25, and edges are repeated."""
    small = np.array([[0, 100], [40, 200]], np.uint8)[..., None]
    row = [0, 25, 75, 100], [40, 80, 160, 200]
    expected = [[a + (b - a) * t for a, b in zip(*row, strict=True)] for t in (0, 0.25, 0.75, 1)]
    assert pixels.resized(small, (4, 4), 1)[..., 0].tolist() == expected
    assert pixels.resized(small, (2, 2), 1)[..., 0].tolist() == small[..., 0].tolist()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(alpha := noise("RGBA", 4)), np.asarray(alpha)[..., :3]),
        (encoded(pale := noise("LA", 2)), np.asarray(pale)[..., :1].repeat(3, 2)),
        (encoded(grey := noise("L", 1)), np.asarray(grey)[..., None].repeat(3, 2)),
        (encoded(palette := Image.fromarray(COLOURS).quantize(16)), np.asarray(palette.convert("RGB"))),
        (encoded(palette, transparency=b"\x00\x80"), np.asarray(palette.convert("RGB"))),
        (encoded(deep := Image.fromarray(np.arange(54, dtype=np.uint16).reshape(6, 9) * 1200)),
         (np.asarray(deep) >> 8)[..., None].repeat(3, 2)),
        (encoded(noise("L", 1).convert("1").convert("L").convert("1")), None),
    ],
    ids=["alpha", "grey with alpha", "grey", "palette", "palette with alpha", "16 bits", "1 bit"],
)  # fmt: skip
def test_a_png_of_any_kind_becomes_colours(data, expected):
    found = decoded(data)
    if expected is None:
        assert set(np.unique(found)) == {0, 255}
    else:
        assert np.array_equal(found, expected)


def test_grey_is_made_as_libpng_does_and_of_a_jpeg_is_its_own():
    weights = np.array([9797, 19234, 3737])
    assert np.array_equal(decoded(FILE, channels=1)[..., 0], (COLOURS.astype(int) @ weights) >> 15)
    brightness = Image.open(io.BytesIO(JPEG))
    brightness.draft("L", brightness.size)
    assert np.array_equal(decoded(JPEG, **PLAIN, channels=1)[..., 0], np.asarray(brightness))


def test_a_jpeg_of_printing_colours_is_right_with_adobes_mark_and_without():
    ink = RANDOM.integers(0, 256, (2, 2, 4), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    data = encoded(Image.frombytes("CMYK", (32, 32), ink.tobytes()), "JPEG", quality=100, subsampling=0)
    at = data.index(b"\xff\xee")
    unmarked = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    ink = ink.astype(int)
    options = {"size": (32, 32), "scale": 1}
    assert np.abs(decoded(data, **options) - (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255).max() < 4
    # Without the mark the same numbers are the light that is left.
    assert np.abs(decoded(unmarked, **options) - ink[..., :3] * ink[..., 3:] / 255).max() < 4


def test_orientation_is_looked_at_when_asked():
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    data = encoded(Image.fromarray(COLOURS), exif=exif)
    assert np.array_equal(decoded(data), COLOURS)
    assert np.array_equal(decoded(data, size=(9, 6), upright=True), np.rot90(COLOURS, -1))


def test_of_a_cameras_file_with_previews_the_first_is_taken():
    data = encoded(SMOOTH, "MPO", save_all=True, append_images=[SMOOTH.resize((16, 12))])
    assert np.array_equal(decoded(data, **PLAIN), decoded(JPEG, **PLAIN))


FRAMES = encoded(Image.fromarray(COLOURS), save_all=True, append_images=[Image.fromarray(255 - COLOURS)])
TALL = encoded(Image.new("L", (1, 4000)))


@pytest.mark.parametrize(
    ("instance", "said"),
    [
        (b64(JPEG[: len(JPEG) // 2]), "cannot be decoded: the JPEG data are cut short or damaged"),
        (b64(JPEG[:-1]), "cannot be decoded: the JPEG data are cut short or damaged"),
        (b64(FILE[:200]), "cannot be decoded: the PNG data are cut short or damaged"),
        (b64(FILE[:60] + b"secret" + FILE[66:]), "cannot be decoded: the PNG data are cut short or damaged"),
        (b64(FILE[:20]), "is no whole JPEG or PNG file"),
        (b64(b"secret text"), "is no JPEG or PNG file"),
        (b64(encoded(Image.fromarray(COLOURS), "GIF")), "is no JPEG or PNG file"),
        (b64(b""), "is an empty file"),
        (b"", "is an empty file"),
        (b64(FRAMES), "is an animation of 2 frames; send one of them"),
        (b64(TALL), "has 1 x 4000 pixels; at most 3072 are taken: send a smaller image"),
        ({"b64": "secret!"}, 'something under "b64" that is not base64; it is written with A-Z'),
        ({"b64": "QUJD\nREVG"}, "without line breaks"),
        ({"b64": "data:image/png;base64,QUJD"}, 'leave out what stands before the comma of a "data:" URL'),
        ({"b64": "QUJ\u00e9"}, "is not base64"),
        ({"b64": 7}, 'something else than text under "b64"'),
        ("secret", 'is text; write a file in base64 as {"b64": "..."}'),
        ({"bytes_inputs": "secret"}, 'is text; write a file in base64 as {"b64": "..."}'),
        ({"secret": b64(FILE)}, 'must be {"b64": "..."}, {"bytes_inputs": {"b64": "..."}} or an array of shape'),
        (7, "must be"),
        (None, "must be"),
        ([[1, 2], [3, 4]], "is 2 x 2; an image is height x width x 3"),
        ([[[1, 2, 3, 4]]], "is 1 x 1 x 4; an image is height x width x 3"),
        ([[[1, 2, 3], [4, 5]]], "has rows of unequal lengths"),
        ([], "is 0; an image is height x width x 3"),
        ([[["a", "b", "secret"]]], "holds something else than numbers"),
        ([[[10**30, 0, 0]]], "holds something else than numbers"),
        ([[[0, 0, 256]]], "has a pixel that is not within 0 to 255"),
        ([[[0, 0, float("nan")]]], "has a pixel that is not within 0 to 255"),
        (np.zeros((1, 3073, 3), np.uint8), "has more than 3072 pixels"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_without_the_payload(instance, said):
    images = ImagePreprocessor(max_pixels=3072)  # what the JPEG has
    with pytest.raises(RequestError) as raised:
        images({"instances": [b64(FILE), instance]})
    assert raised.value.status_code == 400
    assert str(raised.value).startswith("instance 1 ")
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


def of_size(side):
    """A PNG file whose head says so, and whose data are those of another."""
    head = FILE[:16] + side.to_bytes(4, "big") * 2 + FILE[24:29]
    return head + zlib.crc32(head[12:]).to_bytes(4, "big") + FILE[33:]


# Pillow itself warns from 9459 x 9459 on, here as an error, and refuses from twice as many pixels on.
@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_decompression_bomb_is_refused_by_its_head(side):
    with pytest.raises(RequestError, match="instance 0 has too many pixels; send a smaller image"):
        ImagePreprocessor()({"instances": [b64(of_size(side))]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(RequestError, match="instance 0 has (too many|10000 x 10000) pixels"):
            ImagePreprocessor()({"instances": [b64(of_size(side))]})


@pytest.mark.parametrize("instances", [[], "text", {}, 7, None, np.array(7), [b64(FILE)] * 5])
def test_the_list_itself_is_checked(instances):
    with pytest.raises(RequestError, match=r'"instances" must|has 5 images; at most 4 go together'):
        ImagePreprocessor(max_images=4)({"instances": instances})


def test_damage_anywhere_is_right_or_refused():
    """Each byte of both files flipped, at every seventh place: no error but RequestError."""
    images = ImagePreprocessor(size=(4, 4))
    outcomes = set()
    for data in (JPEG, FILE):
        for place, flip in itertools.product(range(0, min(len(data), 700), 7), (0xFF, 0x01)):
            damaged = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    images({"instances": [damaged]})
                    outcomes.add("right")
                except RequestError:
                    outcomes.add("refused")
    assert outcomes == {"right", "refused"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 224}, r"size is 224; give height and width"),
        ({"size": (0, 5)}, r"size is \(0, 5\)"),
        ({"channels": 4}, "channels is 4; an image has 3, or 1"),
        ({"layout": "bhwc"}, 'layout is bhwc; it is "hwc"'),
        ({"scale": 0}, "scale is 0"),
        ({"mean": (1, 2)}, r"mean is \(1, 2\); give one number, or one for each of the 3 channels"),
        ({"std": (1, 0, 1)}, "std holds 0"),
        ({"formats": ("JPG",)}, "formats is JPG; name what Pillow reads here"),
        ({"max_pixels": 0}, "max_pixels is 0, which lets no image through"),
        ({"max_images": -1}, "max_images is -1, which lets no image through"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_the_start(options, said):
    with pytest.raises(UsageError, match=said):
        ImagePreprocessor(**options)


def test_more_formats_are_read_when_named():
    data = encoded(Image.fromarray(COLOURS), "BMP")
    assert np.array_equal(decoded(data, formats=("bmp",)), COLOURS)


def test_settings_come_from_the_folder_of_a_fused_model(tmp_path):
    form = pixels.form((6, 9), 1.0, 10, (1, 2, 4))
    facts = {"input": "photo", "image": form.facts()}
    (tmp_path / "serving_function.json").write_text(json.dumps(facts))
    images = ImagePreprocessor.from_folder(str(tmp_path), upright=True)
    assert images.form == form
    found = images({"instances": [{"photo": b64(FILE)}]})
    assert np.allclose(found[0], (COLOURS - 10.0) / (1, 2, 4))
    with pytest.raises(UsageError, match="formats is JPG"):
        ImagePreprocessor.from_folder(str(tmp_path), formats=("JPG",))
    (tmp_path / "serving_function.json").write_text("{}")
    with pytest.raises(StartError, match="says nothing of images"):
        ImagePreprocessor.from_folder(str(tmp_path))
    (tmp_path / "serving_function.json").unlink()
    with pytest.raises(StartError, match=r"serving_function\.json is not there"):
        ImagePreprocessor.from_folder(str(tmp_path))


@pytest.mark.parametrize("limit", ["shared", 1_500_000])
def test_an_image_above_the_limit_is_warned_of_with_the_sizes(tmp_path, limit):
    (tmp_path / "photo.jpg").write_bytes(bytes(2_000_000))
    with pytest.warns(TooLarge) as caught:
        instance = b64_image(tmp_path / "photo.jpg", limit)
    assert base64.b64decode(instance["b64"]) == bytes(2_000_000)
    said = str(caught[0].message)
    assert "photo.jpg has 2.00 MB, 2.67 MB in base64, which adds a third" in said
    assert "endpoint takes requests of 1.50 MB, so files of 1.12 MB" in said
    assert "a dedicated one takes 10.00 MB" in said
    assert b64_image(tmp_path / "photo.jpg", "dedicated") == instance  # without a warning, which would be an error


def test_the_last_size_that_fits_is_not_warned_of():
    most = MAX_BODY["public"]
    around = len(json.dumps({"instances": [{"bytes_inputs": {"b64": ""}}]}, separators=(",", ":")))
    largest = (most - around) // 4 * 3
    instance = b64_image(bytes(largest))
    assert len(json.dumps({"instances": [{"bytes_inputs": instance}]}, separators=(",", ":"))) <= most
    with pytest.warns(TooLarge, match="the image has"):
        b64_image(bytes(largest + 1))


@pytest.mark.parametrize(
    ("image", "limit", "said"),
    [
        ("nowhere.jpg", "shared", "nowhere.jpg cannot be read: No such file"),
        (b"", "shared", "the image is empty"),
        (b"1", "public?", 'limit is "public?"; give bytes, or a kind of endpoint: dedicated'),
        (b"1", 0, "limit is 0"),
    ],
)
def test_what_is_no_image_file_is_refused_here(image, limit, said):
    with pytest.raises(UsageError) as raised:
        b64_image(image, limit)
    assert said in str(raised.value)


PREDICTOR = """
import os

from cpr_kit import ImagePreprocessor, Predictor


class Means(Predictor):
    media_types = ImagePreprocessor.media_types

    def load(self, artifacts_uri):
        self.images = ImagePreprocessor(size=(8, 8))

    def preprocess(self, prediction_input):
        return self.images(prediction_input)

    def predict(self, images):
        return {"predictions": images.mean(axis=(1, 2)).tolist(), "pid": os.getpid()}
"""


@pytest.fixture(scope="module")
def server(serve_all, tmp_path_factory):
    folder = tmp_path_factory.mktemp("means")
    (folder / "predictor.py").write_text(PREDICTOR)
    return serve_all("predictor:Means", cwd=folder, CPR_SERVE_HOST="127.0.0.1").ready()


def test_a6_3_each_file_is_right_or_a_4xx_and_the_worker_lives(server):
    cmyk = encoded(SMOOTH.convert("CMYK"), "JPEG")
    photo = Image.frombytes("RGB", (900, 900), RANDOM.bytes(900 * 900 * 3))
    large = encoded(photo, "JPEG", quality=97, subsampling=0)[:2_000_000].ljust(2_000_000, b"\0")
    first = server.predict({"instances": [b64(JPEG)]}).json()
    for data in (FILE, cmyk):
        answer = server.predict({"instances": [{"bytes_inputs": b64(data)}]})
        assert (answer.status_code, answer.json()["pid"]) == (200, first["pid"])
    for instance, status, said in (
        (b64(JPEG[:900]), 400, "instance 0 cannot be decoded: the JPEG data are cut short or damaged"),
        ({"b64": "not base64"}, 400, 'instance 0 has something under "b64" that is not base64'),
        (b64(large), 413, "1500000"),
    ):
        answer = server.predict({"instances": [instance]})
        assert answer.status_code == status
        assert said in answer.json()["error"]["message"]
    last = server.predict({"instances": [b64(JPEG)]}).json()
    assert last == first


@pytest.mark.parametrize("content_type", ["image/jpeg", "application/octet-stream"])
def test_the_body_may_be_the_file_itself(server, content_type):
    answer = server.predict(data=JPEG, headers={"content-type": content_type})
    assert answer.json() == server.predict({"instances": [b64(JPEG)]}).json()
    assert server.predict(data=b"no", headers={"content-type": content_type}).status_code == 400
