"""Push an image to Artifact Registry, upload it with its model, deploy it, ask it, and take it all away again.

    python on_vertex.py us-central1-docker.pkg.dev/PROJECT/REPOSITORY/NAME model/ requests/two_rows.json

These are the real service's own calls. `cpr emulate -- python on_vertex.py ...` runs them on this machine, unchanged.
"""

import json
import sys
from pathlib import Path

from google.cloud import aiplatform

from cpr_kit import LocalModel

image, artifacts, request = sys.argv[1:]
host, project = image.split("/")[:2]
aiplatform.init(project=project, location=host.removesuffix("-docker.pkg.dev"))

LocalModel(image).push_image()
model = aiplatform.Model.upload(
    display_name="iris",
    artifact_uri=artifacts,
    serving_container_image_uri=image,
    serving_container_predict_route="/predict",
    serving_container_health_route="/health",
    serving_container_ports=[8080],
)
endpoint = model.deploy(machine_type="n1-standard-4")
try:
    answer = endpoint.predict(**json.loads(Path(request).read_text()))
    print(json.dumps({"predictions": answer.predictions}))
finally:
    endpoint.delete(force=True)
    model.delete()
