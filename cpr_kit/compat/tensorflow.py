"""A SavedModel on one of Vertex AI's prebuilt images, and its endpoint here, which knows the model's signatures."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.errors import LackingError, UsageError
from cpr_kit.harness import client
from cpr_kit.harness.endpoint import LocalEndpoint
from cpr_kit.prebuilt import catalogue, optimized, tf_serving

if TYPE_CHECKING:
    import requests

    from cpr_kit.contract import ContainerSpec

_logger = logging.getLogger(__name__)

DEFAULT_SIGNATURE = "serving_default"
_NAME = "default"
"""The model's name in the prebuilt images."""


class TensorFlowEndpoint(LocalEndpoint):
    """`raw` takes instances and the signature that they are for; mistakes are found before anything is sent."""

    _model: str | None = None
    _versioned: tempfile.TemporaryDirectory[str] | None = None

    def serve(self) -> None:
        if self._versioned is None and self.options.artifact_uri and tf_serving.is_one(self.spec):
            self._model = self.options.artifact_uri
            self._versioned = _with_version(self._model)
            if self._versioned is not None:
                self.options = replace(self.options, artifact_uri=self._versioned.name)
        try:
            super().serve()
        except BaseException:
            self._clean()
            raise

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            self._clean()

    def raw(self, body: Any, content_type: str = client.JSON, *, signature: str | None = None) -> requests.Response:
        """A list is instances, for `signature`; anything else is the whole body, as it is.

        Raises UsageError for a signature or an input that the model does not have, with those that it has.
        """
        if isinstance(body, list | tuple):
            body = checked(body, signature, self._model or self.options.artifact_uri)
        elif signature is not None:
            raise UsageError('signature goes with instances, a list; a whole body says "signature_name" itself')
        return super().raw(body, content_type)

    def _clean(self) -> None:
        if self._versioned is not None:
            self.options = replace(self.options, artifact_uri=self._model)
            self._versioned.cleanup()
            self._versioned = None


class TensorFlowModel(LocalModel):
    """Made by `LocalModel.tensorflow` and `LocalModel.optimized_tensorflow`. `spec` is what Vertex AI gets."""

    endpoint_class: ClassVar[type[LocalEndpoint]] = TensorFlowEndpoint
    local_image: str | None = None
    """A TensorFlow Serving that stands for the prebuilt image on this machine."""
    notes: tuple[str, ...] = ()
    _told = False

    def body(self, instances: Sequence[Any], signature: str | None = None) -> dict[str, Any]:
        """The body for `Endpoint.raw_predict`, checked against the model. Raises UsageError."""
        return checked(instances, signature, self.artifact_uri)

    def spec_here(self, artifacts: str | os.PathLike[str] | None) -> ContainerSpec:
        """The prebuilt image where this machine has it, else TensorFlow Serving under the same routes."""
        if self.local_image is not None:
            return self._served_by(self.local_image)
        if catalogue.is_prebuilt(self.spec.image_uri) and self._any().image(self.spec.image_uri) is None:
            raise LackingError(
                f"this machine has no image {self.spec.image_uri}; docker pull it, which takes Google's registry, or "
                f'name another for runs here: LocalModel.tensorflow(..., image="{tf_serving.IMAGE}")'
            )
        return super().spec_here(artifacts)

    def _served_by(self, image: str) -> ContainerSpec:
        """A server that stands for the prebuilt image, with as many of its arguments as it knows."""
        found = self._any().image(image)
        args, lacking = optimized.split(self.spec.args, found.labels.get(optimized.SERVED, "") if found else "")
        if lacking and not self._told:
            self._told = True
            _logger.warning(
                "%s has no counterpart of these flags, and serves without them here: %s", image, ", ".join(lacking)
            )
        named = [each.partition("=")[2] for each in args if each.startswith("--model_name=")]
        name = named[-1] if named else _NAME
        derived = {each.partition("=")[0] for each in tf_serving.spec(name, image=image).args}
        return tf_serving.spec(name, image=image, args=[each for each in args if each.partition("=")[0] not in derived])

    def push_image(self) -> str:
        """Raises UsageError: models use a prebuilt image where it is."""
        if catalogue.is_prebuilt(self.spec.image_uri):
            raise UsageError(
                f"{self.spec.image_uri} is one of Vertex AI's own images, which models use where it is; "
                "there is nothing to push"
            )
        return super().push_image()


def checked(instances: Sequence[Any], signature: str | None, model: str | None) -> dict[str, Any]:
    """The body of a request with instances. What is at gs:// cannot be looked at, and is sent unchecked."""
    body: dict[str, Any] = {"instances": _plain(instances)}
    if signature not in {None, DEFAULT_SIGNATURE}:
        body = {"signature_name": signature, **body}
    if model is None or model.startswith("gs://"):
        return body
    from cpr_kit.savedmodel import body as bodies
    from cpr_kit.savedmodel import reader

    if faults := bodies.faults(reader.read(Path(model)).signatures, body):
        raise UsageError("the model does not take this request, and it was not sent: " + "; ".join(faults))
    return body


def _plain(value: Any) -> Any:
    """Arrays as lists, as they are sent."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _with_version(model: str) -> tempfile.TemporaryDirectory[str] | None:
    """A folder with the model as version 1: the prebuilt images take a model without one, TensorFlow Serving does not.

    None where nothing needs one: the folder has versions, or is at gs://.
    """
    if model.startswith("gs://"):
        return None
    path = Path(model).expanduser().resolve()
    if not path.is_dir() or tf_serving.version_fault(path) is None:
        return None
    above = tempfile.TemporaryDirectory(prefix="cpr-model-")
    try:
        Path(above.name).chmod(0o755)  # the container's user is another one
        shutil.copytree(path, Path(above.name) / "1", copy_function=_link)
    except BaseException:
        above.cleanup()
        raise
    return above


def _link(source: str, target: str) -> None:
    """Models are large: one more name where the file system allows it, of the file that a symbolic link leads to."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
