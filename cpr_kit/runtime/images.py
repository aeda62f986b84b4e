"""Images in a request as one array for a model: the twin of `attach_image_serving`'s graph, without TensorFlow."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from cpr_kit.errors import MissingExtra, RequestError, StartError, UsageError
from cpr_kit.runtime import instances, pixels

if TYPE_CHECKING:
    import numpy as np

SIDECAR = "serving_function.json"
"""Beside saved_model.pb: what `attach_image_serving` and its kin write about what they saved."""

FORMATS = ("JPEG", "PNG")
_IMAGE_RANK = 3
_BRIGHTEST = 255


class ImagePreprocessor:
    """Called with a request it gives (n, height, width, channels) float32, or (n, channels, height, width).

        class Classifier(Predictor):
            media_types = ImagePreprocessor.media_types

            def load(self, artifacts_uri):
                self.images = ImagePreprocessor(size=(224, 224))

            def preprocess(self, prediction_input):
                return self.images(prediction_input)

    An instance is {"b64": "..."} or {"bytes_inputs": {"b64": "..."}} with a file in base64; or an array of pixels, 0 to
    255, as (height, width, channels). With `media_types` the body may be the file itself. All are resized and scaled.
    Whatever is wrong with one is a RequestError that names its place, and repeats nothing of it.

    formats: of Pillow's. upright: turn a photograph as its EXIF data say; TensorFlow, Keras and Pillow do not unless
    asked, so models are mostly trained without. max_pixels: of one file. max_images: of one request, since a small
    body can hold many files that get large.
    """

    media_types: ClassVar[tuple[str, ...]] = ("image/*", "application/octet-stream")

    def __init__(
        self,
        size: Sequence[int] = (224, 224),
        *,
        scale: float = 1 / 255,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        channels: int = 3,
        layout: str = "hwc",
        input_name: str = "bytes_inputs",
        formats: Sequence[str] = FORMATS,
        upright: bool = False,
        max_pixels: int = pixels.MOST_PIXELS,
        max_images: int = 128,
    ) -> None:
        self.form = pixels.form(size, scale, mean, std, channels, layout)
        self.input_name = input_name
        self.formats = _known(formats)
        self.upright, self.max_pixels, self.max_images = upright, max_pixels, max_images
        for name, most in (("max_pixels", max_pixels), ("max_images", max_images)):
            if most < 1:
                raise UsageError(f"{name} is {most}, which lets no image through; give 1 or more")

    @classmethod
    def from_folder(cls, folder: str, **options: Any) -> ImagePreprocessor:
        """As the SavedModel in the folder, or under its gs:// URI, decodes: what `attach_image_serving` wrote down."""
        from cpr_kit.runtime import artifacts

        path = artifacts.fetch(folder) / SIDECAR
        try:
            facts = json.loads(path.read_bytes())
            form = {**pixels.form_of(facts["image"]).facts(), "input_name": facts["input"]}
        except FileNotFoundError as error:
            raise StartError(
                f"{path} is not there", "save the model with attach_image_serving, which writes it"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
            raise StartError(
                f"{path} says nothing of images", "save the model with attach_image_serving, which writes it"
            ) from error
        return cls(**{**form, **options})

    def __call__(self, request: Any) -> np.ndarray[Any, Any]:
        """Of a decoded request, {"instances": [...]}. Raises RequestError."""
        return self.transform(instances.of(request))

    def transform(self, values: Any) -> np.ndarray[Any, Any]:
        """Of its instances. Raises RequestError."""
        import numpy as np

        many = values.ndim > 0 if isinstance(values, np.ndarray) else isinstance(values, (list, tuple))
        if not many:
            raise RequestError('"instances" must be a list of images')
        if not len(values):
            raise RequestError('"instances" must hold one image at least')
        if len(values) > self.max_images:
            raise RequestError(f"the request has {len(values)} images; at most {self.max_images} go together")
        form = self.form
        found = np.empty((len(values), *form.size, form.channels), np.float32)
        for index, value in enumerate(values):
            found[index] = pixels.resized(self._pixels(value, index), form.size, form.scale)
        if form.mean:
            found -= np.array(form.mean, np.float32)
        if form.std:
            found /= np.array(form.std, np.float32)
        return np.ascontiguousarray(found.transpose(0, 3, 1, 2)) if form.layout == "chw" else found

    def _pixels(self, value: Any, index: int) -> np.ndarray[Any, Any]:
        """(height, width, channels) of an instance."""
        if isinstance(value, Mapping) and value.keys() == {self.input_name}:
            value = value[self.input_name]
        if isinstance(value, Mapping) and value.keys() == {"b64"}:
            value = _unpacked(value["b64"], index)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._decoded(bytes(value), index)
        if isinstance(value, str):
            raise RequestError(f'instance {index} is text; write a file in base64 as {{"b64": "..."}}')
        if not isinstance(value, Sequence) and not hasattr(value, "shape"):
            raise RequestError(
                f'instance {index} must be {{"b64": "..."}}, {{"{self.input_name}": {{"b64": "..."}}}} '
                f"or an array of shape (height, width, {self.form.channels})"
            )
        return self._checked(value, index)

    def _decoded(self, data: bytes, index: int) -> np.ndarray[Any, Any]:
        if not data:
            raise RequestError(f"instance {index} is an empty file")
        try:
            return pixels.decode(
                data, self.form.channels, formats=self.formats, max_pixels=self.max_pixels, upright=self.upright
            )
        except pixels.Undecodable as error:
            raise RequestError(f"instance {index} {error}") from error

    def _checked(self, value: Any, index: int) -> np.ndarray[Any, Any]:
        """An array as it was sent, of numbers that are pixels."""
        import numpy as np

        channels = self.form.channels
        try:
            array = np.asarray(value)
        except (ValueError, OverflowError):
            raise RequestError(f"instance {index} has rows of unequal lengths; an image has equal ones") from None
        if array.ndim == _IMAGE_RANK - 1 and channels == 1:
            array = array[..., None]
        if array.ndim != _IMAGE_RANK or array.shape[2] != channels or 0 in array.shape:
            shape = " x ".join(map(str, array.shape)) or "no array"
            raise RequestError(f"instance {index} is {shape}; an image is height x width x {channels}")
        if array.shape[0] * array.shape[1] > self.max_pixels:
            raise RequestError(f"instance {index} has more than {self.max_pixels} pixels; send a smaller image")
        if array.dtype.kind not in "iuf":
            raise RequestError(f"instance {index} holds something else than numbers; pixels are 0 to {_BRIGHTEST}")
        if not (array.min() >= 0 and array.max() <= _BRIGHTEST):  # NaN is neither
            raise RequestError(f"instance {index} has a pixel that is not within 0 to {_BRIGHTEST}")
        return array


def _unpacked(text: Any, index: int) -> bytes:
    if not isinstance(text, str):
        raise RequestError(f'instance {index} has something else than text under "b64"')
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        hint = 'leave out what stands before the comma of a "data:" URL' if text.startswith("data:") else _ALPHABET
        raise RequestError(f'instance {index} has something under "b64" that is not base64; {hint}') from None


_ALPHABET = "it is written with A-Z, a-z, 0-9, + and /, padded with =, without line breaks"


def _known(formats: Sequence[str]) -> tuple[str, ...]:
    """Raises MissingExtra without Pillow, and UsageError for what it cannot read: at the start, not at a request."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("Pillow", "images") from error
    Image.preinit()
    wanted = tuple(name.upper() for name in ([formats] if isinstance(formats, str) else formats))
    if not set(wanted) <= Image.OPEN.keys():
        Image.init()
    unknown = [name for name in wanted if name not in Image.OPEN]
    if unknown or not wanted:
        some = ", ".join(unknown) or "empty"
        raise UsageError(f'formats is {some}; name what Pillow reads here: formats=("JPEG", "PNG", "WEBP")')
    return wanted
