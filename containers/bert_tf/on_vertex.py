"""One SavedModel on Vertex AI, as it was saved and on the optimized TensorFlow runtime, and how far answers are apart.

    python on_vertex.py us-central1 PROJECT model/1 requests/two.json
    python on_vertex.py us-central1 PROJECT

The first deploys: two public endpoints, bert-standard and bert-lossy, and bert-private with Private Service Connect.
They stay, to be compared (docs/bert.md), until the second takes them away. These are the real service's own calls;
`cpr emulate` runs them on this machine, unchanged, where an image is here under the two images' names.
"""

import json
import sys
from pathlib import Path

from google.cloud import aiplatform

from cpr_kit.prebuilt import optimized

PRIVATE = "bert-private"


def upload(name, artifacts):
    """`name` is a preset of the kit: an image and its arguments."""
    spec = optimized.preset(name, region=location).spec
    return aiplatform.Model.upload(
        display_name=f"bert-{name}",
        artifact_uri=artifacts,
        serving_container_image_uri=spec.image_uri,
        serving_container_args=list(spec.args),
    )


def deploy(artifacts):
    models = {name: upload(name, artifacts) for name in ("standard", "lossy")}
    allowed = aiplatform.PrivateEndpoint.PrivateServiceConnectConfig(project_allowlist=[project])
    private = aiplatform.PrivateEndpoint.create(display_name=PRIVATE, private_service_connect_config=allowed)
    public = {name: aiplatform.Endpoint.create(display_name=model.display_name) for name, model in models.items()}
    for name, endpoint in public.items():
        endpoint.deploy(models[name], machine_type="n1-standard-4", sync=False)
    private.deploy(models["lossy"], machine_type="n1-standard-4", sync=False)
    for endpoint in (*public.values(), private):
        endpoint.wait()
    return public


def ask(endpoints, request):
    instances = json.loads(Path(request).read_text())["instances"]
    answers = {name: endpoint.predict(instances=instances).predictions for name, endpoint in endpoints.items()}
    for name, predictions in answers.items():
        print(f"{name:9} {json.dumps(predictions)}")
    pairs = zip(answers["standard"], answers["lossy"], strict=True)
    apart = [max(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in pairs]
    print("apart    ", *(f"{each:.6f}" for each in apart))


def delete():
    public = [(aiplatform.Endpoint, "bert-standard"), (aiplatform.Endpoint, "bert-lossy")]
    for kind, name in (*public, (aiplatform.PrivateEndpoint, PRIVATE)):
        for endpoint in kind.list(filter=f'display_name="{name}"'):
            endpoint.delete(force=True)
    for _, name in public:
        for model in aiplatform.Model.list(filter=f'display_name="{name}"'):
            model.delete()


location, project, *rest = sys.argv[1:]
aiplatform.init(project=project, location=location)
if rest:
    path, body = rest
    ask(deploy(path), body)
else:
    delete()
