"""Run by test_upload.py in a process of its own: the real SDK uploads the kit's model to the address given."""

import sys
import warnings

warnings.simplefilter("ignore")

from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform

from cpr_kit import LocalModel

era, address = sys.argv[1:]
aiplatform.init(
    project="my-project", location="us-central1", api_endpoint=address, api_transport="rest",
    credentials=AnonymousCredentials(), staging_bucket="gs://bucket",
)  # fmt: skip
local_model = LocalModel(
    serving_container_image_uri="us-central1-docker.pkg.dev/my-project/serving/iris:1",
    serving_container_predict_route="/predict",
    serving_container_health_route="/health",
    serving_container_environment_variables={"VERTEX_CPR_WEB_CONCURRENCY": "2"},
    serving_container_ports=[8080],
)
if era == "today":
    model = aiplatform.Model.upload(local_model=local_model, display_name="iris", artifact_uri="gs://bucket/model")
else:
    model = local_model.upload(display_name="iris", artifact_uri="gs://bucket/model")
print(model.resource_name, model.display_name, model.container_spec.image_uri)
