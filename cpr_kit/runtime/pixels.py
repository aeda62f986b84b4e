"""Image files as arrays of numbers: decoded, resized and scaled as TensorFlow's operations do it, without TensorFlow.

`tf.io.decode_jpeg(dct_method="INTEGER_ACCURATE")` and Pillow give the same bytes: both are libjpeg-turbo's slow integer
method. `resized` has the arithmetic of `tf.image.resize` (bilinear, half-pixel centres, no antialias) in its order.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

LAYOUTS = ("hwc", "chw")
CHANNELS = (1, 3)
MOST_PIXELS = 89_478_485
"""From here on Pillow speaks of a decompression bomb. It takes a gigabyte while it is decoded, and a second or more."""

_WEIGHTS = (9797, 19234, 3737)  # of red, green and blue in 32768ths: what libpng has under TensorFlow
_ROWS = 256


class Undecodable(ValueError):
    """What is wrong with a file, as the end of a sentence: "is no JPEG or PNG file"."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What an image classifier takes. Raises UsageError for what can be none.

    size: height and width. scale: pixels of 0 to 255 are multiplied by it; then `mean` is taken off and `std` divides,
    one number or one for each channel. layout: "hwc", or "chw" as PyTorch has it.
    """

    size: tuple[int, int] = (224, 224)
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: int = 3
    layout: str = "hwc"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        height, width = self.size
        return (self.channels, height, width) if self.layout == "chw" else (height, width, self.channels)

    def facts(self) -> dict[str, Any]:
        """In JSON's values; `form(**facts)` gives it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def form(
    size: Sequence[int] = (224, 224),
    scale: float = 1 / 255,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    channels: int = 3,
    layout: str = "hwc",
) -> Form:
    """A Form of what was given, checked. Raises UsageError."""
    if not _is_size(size):
        raise UsageError(f"size is {size}; give height and width in pixels: size=(224, 224)")
    if channels not in CHANNELS:
        raise UsageError(f"channels is {channels}; an image has 3, or 1 where it is grey")
    if layout not in LAYOUTS:
        raise UsageError(f'layout is {layout}; it is "hwc" (height, width, channels) or "chw"')
    if not _is_number(scale) or scale <= 0:
        raise UsageError(f"scale is {scale}; pixels of 0 to 255 are multiplied by it: 1 / 255 makes them 0 to 1")
    means, stds = _each("mean", mean, channels), _each("std", std, channels)
    if 0 in stds:
        raise UsageError("std holds 0, and pixels are divided by it")
    return Form(
        size=(int(size[0]), int(size[1])), scale=float(scale), mean=means, std=stds, channels=channels, layout=layout
    )


def form_of(facts: Mapping[str, Any]) -> Form:
    """The Form whose `facts` were kept; names that are none of its own are left out."""
    known = {each.name for each in fields(Form)}
    return form(**{name: value for name, value in facts.items() if name in known})


def _each(name: str, value: float | Sequence[float] | None, channels: int) -> tuple[float, ...]:
    if value is None:
        return ()
    values = [value] if isinstance(value, (int, float)) else list(value)
    if len(values) not in (0, 1, channels) or not all(map(_is_number, values)):
        raise UsageError(f"{name} is {value}; give one number, or one for each of the {channels} channels")
    return tuple(float(each) for each in values)


def _is_size(value: Any) -> bool:
    sides = list(value) if isinstance(value, (list, tuple)) else []
    return len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)  # noqa: PLR2004


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def decode(
    data: bytes, channels: int, *, formats: Sequence[str], max_pixels: int = MOST_PIXELS, upright: bool = False
) -> np.ndarray[Any, Any]:
    """(height, width, channels) of bytes. Raises Undecodable.

    Transparency is dropped, not blended; of 16 bits the upper 8 stay; a palette is looked up: as TensorFlow does.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    kinds = " or ".join(formats)
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        image = Image.open(io.BytesIO(data), formats=tuple(formats))
    except UnidentifiedImageError:
        raise Undecodable(f"is no {kinds} file") from None
    except bombs:
        raise Undecodable("has too many pixels; send a smaller image") from None
    except Exception as error:  # a decoder that stumbles over a file raises whatever it likes
        raise Undecodable(f"is no whole {kinds} file") from error
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise Undecodable(f"has {width} x {height} pixels; at most {max_pixels} are taken: send a smaller image")
        try:
            _check_still(image)
            if channels == 1 and image.format in ("JPEG", "MPO"):
                image.draft("L", image.size)  # the file's own brightness, which is grey already
            image.load()
            return _bytes_of(ImageOps.exif_transpose(image) if upright else image, channels)
        except Undecodable:
            raise
        except Exception as error:
            raise Undecodable(f"cannot be decoded: the {image.format} data are cut short or damaged") from error


def _check_still(image: Any) -> None:
    # A camera's MPO has previews behind the photograph, which comes first.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise Undecodable(f"is an animation of {frames} frames; send one of them")


def _bytes_of(image: Any, channels: int) -> np.ndarray[Any, Any]:
    import numpy as np

    if image.mode == "CMYK":
        # libjpeg gives Adobe's files inverted, and Pillow turns all as if they were such.
        colours = _by_rows(np.asarray(image), _light if "adobe" in image.info else _as_light)
    elif image.mode.startswith("I"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)[..., None]
        return grey if channels == 1 else np.repeat(grey, channels, axis=2)
    elif channels == 1 and image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))[..., None]
    elif image.mode == "P":
        colours = np.asarray(image.convert("RGBA"))[..., :3]  # Pillow warns of the transparency that RGB would lose
    else:
        colours = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return colours if channels > 1 else _by_rows(colours, _grey)


def _by_rows(pixels: np.ndarray[Any, Any], convert: Callable[[Any], Any]) -> np.ndarray[Any, Any]:
    """Some rows at a time, since the numbers between are several times as large as what goes in and comes out."""
    import numpy as np

    parts = [convert(pixels[row : row + _ROWS].astype(np.uint32)) for row in range(0, len(pixels), _ROWS)]
    return np.concatenate(parts)


def _light(ink: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return _as_light(255 - ink)


def _as_light(light: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = (light[..., :3] * light[..., 3:] // 255).astype("uint8")
    return found


def _grey(colours: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    red, green, blue = _WEIGHTS
    mixed = colours[..., :1] * red + colours[..., 1:2] * green + colours[..., 2:] * blue
    found: np.ndarray[Any, Any] = (mixed >> 15).astype("uint8")
    return found


def resized(pixels: np.ndarray[Any, Any], size: tuple[int, int], scale: float) -> np.ndarray[Any, Any]:
    """(height, width, channels) float32 of pixels that are scaled first, as `tf.image.resize` has them.

    Only what the answer needs is made into floats: a photograph of 50 million pixels takes no more than it has.
    """
    import numpy as np

    above, below, down = _neighbours(pixels.shape[0], size[0])
    left, right, along = _neighbours(pixels.shape[1], size[1])
    down, along = down[:, None, None], along[None, :, None]
    factor = np.float32(scale)

    def picked(rows: Any, columns: Any) -> Any:
        return pixels[rows[:, None], columns[None, :]].astype(np.float32) * factor

    def row(rows: Any) -> Any:
        first = picked(rows, left)
        return first + (picked(rows, right) - first) * along

    top = row(above)
    found: np.ndarray[Any, Any] = top + (row(below) - top) * down
    return found


def _neighbours(given: int, wanted: int) -> tuple[Any, Any, Any]:
    """For each wanted place the two given ones that it lies between, and how far it is from the first."""
    import numpy as np

    half = np.float32(0.5)
    places = (np.arange(wanted, dtype=np.float32) + half) * (np.float32(given) / np.float32(wanted)) - half
    floor = np.floor(places)
    first = np.maximum(floor, 0).astype(np.int64)
    second = np.minimum(np.ceil(places), given - 1).astype(np.int64)
    return first, second, places - floor
