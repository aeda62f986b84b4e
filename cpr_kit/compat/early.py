"""The names that `LocalModel` had in 2022. Each warns, names its successor, and does what it did."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from cpr_kit.compat.cpr_config import ClassName
from cpr_kit.errors import MissingExtra
from cpr_kit.runtime.handler import PredictionHandler

if TYPE_CHECKING:
    from cpr_kit.compat.local_model import LocalModel


class EarlyNames:
    """Upstream's signatures, apart from the base image's default: Python 3.7 is too old for the kit."""

    @classmethod
    def create(
        cls,
        serving_container_image_uri: str,
        serving_container_predict_route: str | None = None,
        serving_container_health_route: str | None = None,
        serving_container_command: Sequence[str] | None = None,
        serving_container_args: Sequence[str] | None = None,
        serving_container_environment_variables: Mapping[str, str] | None = None,
        serving_container_ports: Sequence[int] | None = None,
    ) -> LocalModel:
        _warn("create", "LocalModel(serving_container_image_uri=...)")
        return cast("type[LocalModel]", cls)(
            serving_container_image_uri=serving_container_image_uri,
            serving_container_predict_route=serving_container_predict_route,
            serving_container_health_route=serving_container_health_route,
            serving_container_command=serving_container_command,
            serving_container_args=serving_container_args,
            serving_container_environment_variables=serving_container_environment_variables,
            serving_container_ports=serving_container_ports,
        )

    @classmethod
    def create_cpr_model(
        cls,
        src_dir: str | os.PathLike[str],
        output_image_uri: str,
        predictor: ClassName | None = None,
        handler: ClassName | None = PredictionHandler,
        base_image: str = "python:3.10",
        requirements_path: str | os.PathLike[str] | None = None,
        extra_packages: Sequence[str | os.PathLike[str]] | None = None,
        no_cache: bool = False,
    ) -> LocalModel:
        _warn("create_cpr_model", "LocalModel.build_cpr_model(...)")
        return cast("type[LocalModel]", cls).build_cpr_model(
            src_dir=src_dir,
            output_image_uri=output_image_uri,
            predictor=predictor,
            handler=handler,
            base_image=base_image,
            requirements_path=requirements_path,
            extra_packages=extra_packages,
            no_cache=no_cache,
        )

    def upload(
        self,
        display_name: str,
        artifact_uri: str | None = None,
        description: str | None = None,
        instance_schema_uri: str | None = None,
        parameters_schema_uri: str | None = None,
        prediction_schema_uri: str | None = None,
        explanation_metadata: Any = None,
        explanation_parameters: Any = None,
        project: str | None = None,
        location: str | None = None,
        credentials: Any = None,
        labels: dict[str, str] | None = None,
        encryption_spec_key_name: str | None = None,
        staging_bucket: str | None = None,
        sync: bool = True,
    ) -> Any:
        """Google's `aiplatform.Model`. Raises MissingExtra without google-cloud-aiplatform."""
        _warn("upload", "aiplatform.Model.upload(local_model=...)")
        try:
            from google.cloud.aiplatform import Model
        except ImportError as error:
            raise MissingExtra("google-cloud-aiplatform", "vertex") from error
        return Model.upload(
            local_model=self,
            display_name=display_name,
            artifact_uri=artifact_uri,
            description=description,
            instance_schema_uri=instance_schema_uri,
            parameters_schema_uri=parameters_schema_uri,
            prediction_schema_uri=prediction_schema_uri,
            explanation_metadata=explanation_metadata,
            explanation_parameters=explanation_parameters,
            project=project,
            location=location,
            credentials=credentials,
            labels=labels,
            encryption_spec_key_name=encryption_spec_key_name,
            staging_bucket=staging_bucket,
            sync=sync,
        )


def _warn(name: str, successor: str) -> None:
    warnings.warn(f"LocalModel.{name} is a name of 2022; write {successor}", DeprecationWarning, stacklevel=3)
