"""Raw prediction: a SavedModel on Vertex AI's prebuilt TensorFlow image, asked for a signature that is not the default.

    python on_vertex.py us-central1 PROJECT model/ requests/dream.json

These are the real service's own calls. `cpr emulate -- python on_vertex.py ...` runs them on this machine, unchanged,
where an image is here under the prebuilt image's name: docs/tf_serving.md.
"""

import sys
from pathlib import Path

from google.cloud import aiplatform

location, project, artifacts, request = sys.argv[1:]
aiplatform.init(project=project, location=location)

model = aiplatform.Model.upload(
    display_name="penguins",
    artifact_uri=artifacts,
    serving_container_image_uri=f"{location.partition('-')[0]}-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest",
)
endpoint = aiplatform.Endpoint.create(display_name="penguins")
try:
    endpoint.deploy(model, deployed_model_display_name="penguins", machine_type="n1-standard-4")
    answer = endpoint.raw_predict(body=Path(request).read_bytes(), headers={"Content-Type": "application/json"})
    print(answer.text)
finally:
    endpoint.delete(force=True)
    model.delete()
