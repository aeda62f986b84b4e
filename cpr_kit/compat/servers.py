"""`LocalModel` of servers that others wrote: TensorFlow's prebuilt images, TensorFlow Serving, Triton."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from cpr_kit.contract import DEFAULT_PORT
from cpr_kit.errors import SpecError
from cpr_kit.harness.endpoint import LocalEndpoint
from cpr_kit.prebuilt import catalogue, layout, optimized, tf_serving, triton

if TYPE_CHECKING:
    from cpr_kit.compat.local_model import LocalModel
    from cpr_kit.compat.tensorflow import TensorFlowModel
    from cpr_kit.contract import ContainerSpec
    from cpr_kit.engine.protocol import Engine

PathOrUri = str | os.PathLike[str]


class ServerNames:
    """What each one needs follows from its arguments; what cannot get healthy is refused before it is started."""

    spec: ContainerSpec
    endpoint_class: ClassVar[type[LocalEndpoint]] = LocalEndpoint

    @classmethod
    def tensorflow(
        cls,
        model_dir: PathOrUri,
        version: str = "2-15",
        accelerator: str = "cpu",
        *,
        region: str = "us-central1",
        image: str | None = None,
        engine: Engine | None = None,
    ) -> TensorFlowModel:
        """A SavedModel on Vertex AI's prebuilt image, whose start and routes Vertex AI knows. Raises ConfigError.

        A run on this machine takes `image`, a TensorFlow Serving such as "tensorflow/serving:2.5.4", since the prebuilt
        image is at Google's registry alone; without it the prebuilt image is looked for here.
        """
        from cpr_kit.compat.tensorflow import TensorFlowModel

        prebuilt = catalogue.for_framework("tensorflow", version, accelerator)
        artifacts = _absolute(model_dir)
        layout.check(prebuilt, artifacts)
        model = TensorFlowModel(prebuilt.spec(region), engine=engine, artifact_uri=artifacts)
        model.local_image = image
        return model

    @classmethod
    def optimized_tensorflow(
        cls,
        model_dir: PathOrUri,
        preset: optimized.Preset = "lossless",
        *,
        version: str | None = None,
        accelerator: str = "cpu",
        region: str = "us-central1",
        args: Sequence[str] = (),
        image: str | None = None,
        engine: Engine | None = None,
    ) -> TensorFlowModel:
        """The same on a preset of `prebuilt.optimized`: "standard", "lossless", "lossy". Raises ConfigError.

        `notes` of the model say which flags had old names.
        """
        from cpr_kit.compat.tensorflow import TensorFlowModel

        chosen = optimized.preset(preset, version=version, accelerator=accelerator, region=region, args=args)
        artifacts = _absolute(model_dir)
        layout.check(chosen.prebuilt, artifacts)
        model = TensorFlowModel(chosen.spec, engine=engine, artifact_uri=artifacts)
        model.local_image, model.notes = image, chosen.notes
        return model

    @classmethod
    def tf_serving(
        cls,
        model_dir: PathOrUri,
        name: str = "model",
        image: str = tf_serving.IMAGE,
        *,
        port: int = DEFAULT_PORT,
        grpc_port: int = tf_serving.GRPC_PORT,
        args: Sequence[str] = (),
        engine: Engine | None = None,
    ) -> LocalModel:
        """TensorFlow Serving: command, arguments, routes and ports from one name. Raises SpecError.

        `model_dir` is a version's folder, whose name is a number, or the folder above it.
        """
        spec = tf_serving.spec(name, image=image, port=port, grpc_port=grpc_port, args=args)
        folder = tf_serving.folder(os.fspath(model_dir))
        return cast("type[LocalModel]", cls)(spec, engine=engine, artifact_uri=folder.base)

    @classmethod
    def triton(
        cls,
        model_repository: PathOrUri,
        model: str,
        image: str = triton.IMAGE,
        *,
        redirecting: bool = False,
        port: int = triton.PORT,
        args: Sequence[str] = (),
        shared_memory_mb: int | None = None,
        engine: Engine | None = None,
    ) -> LocalModel:
        """NVIDIA Triton with one model at its own routes. Raises SpecError.

        The repository may have others: then Triton is told which one is meant. Of a repository at gs:// nobody can see
        that; if it has several: args=["--vertex-ai-default-model=MODEL"].

        `redirecting` serves all of the repository at Vertex AI's routes: `model` is the default one, and a request's
        header x-vertex-ai-triton-redirect names another's. Then Vertex AI chooses the port.
        """
        artifacts = _absolute(model_repository)
        triton.check_repository(artifacts, model)
        if redirecting:
            if port != triton.PORT:
                raise SpecError(f"port is {port}, and redirecting leaves the port to Vertex AI; leave one of them out")
            spec = triton.redirecting(model, image=image, args=args, shared_memory_mb=shared_memory_mb)
        else:
            spec = triton.spec(
                model,
                image=image,
                port=port,
                among_others=len(triton.models(artifacts)) > 1,
                args=args,
                shared_memory_mb=shared_memory_mb,
            )
        return cast("type[LocalModel]", cls)(spec, engine=engine, artifact_uri=artifacts)

    def spec_here(self, artifacts: PathOrUri | None) -> ContainerSpec:
        """What is started on this machine. Raises SpecError for what would never get healthy."""
        tf_serving.check(self.spec, None if artifacts is None else os.fspath(artifacts))
        return self.spec


def _absolute(path: PathOrUri) -> str:
    text = os.fspath(path)
    return text if text.startswith("gs://") else os.path.realpath(os.path.expanduser(text))  # noqa: PTH111
