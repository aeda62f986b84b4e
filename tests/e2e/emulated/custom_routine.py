"""A CPR image: pushed, uploaded in two versions, deployed, asked in three ways, split, used for batches, taken away.

As the tutorials do it; nothing here knows where Vertex AI is. Arguments: the image, the folder with the model, and the
transport of google-cloud-aiplatform: grpc (its default) or rest.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import google.auth
import google.auth.transport.requests
import requests
from google.cloud import aiplatform, storage

from cpr_kit import LocalModel

IMAGE, FOLDER, TRANSPORT = sys.argv[1:]
PROJECT, REGION, BUCKET = "my-project", "us-central1", f"my-project-iris-{TRANSPORT}"
ROWS = [[6.7, 3.1, 4.7, 1.5], [5.1, 3.5, 1.4, 0.2]]
NAMES = ["versicolor", "setosa"]

# The bucket, with the model in it.
bucket = storage.Client(project=PROJECT).create_bucket(BUCKET, location=REGION)
for path in Path(FOLDER).iterdir():
    bucket.blob(f"model/{path.name}").upload_from_filename(path)

# The image.
print("pushed:", LocalModel(serving_container_image_uri=IMAGE).push_image())

# Two versions of one model.
options = {} if TRANSPORT == "grpc" else {"api_transport": TRANSPORT}
aiplatform.init(project=PROJECT, location=REGION, staging_bucket=f"gs://{BUCKET}", **options)
container = {
    "artifact_uri": f"gs://{BUCKET}/model",
    "serving_container_image_uri": IMAGE,
    "serving_container_predict_route": "/predict",
    "serving_container_health_route": "/health",
    "serving_container_ports": [8080],
}
model = aiplatform.Model.upload(
    display_name="iris",
    version_aliases=["stable"],
    version_description="the first",
    labels={"team": "plants"},
    **container,
)
assert (model.version_id, set(model.version_aliases)) == ("1", {"stable", "default"}), model.version_aliases
second = aiplatform.Model.upload(
    parent_model=model.resource_name, is_default_version=False, version_aliases=["canary"], **container
)
assert (second.version_id, second.version_aliases) == ("2", ["canary"])
assert aiplatform.Model(f"{model.resource_name}@canary").version_id == "2"
assert [each.resource_name for each in aiplatform.Model.list(filter='display_name="iris"')] == [model.resource_name]

# Deployed: the answer in three ways.
endpoint = aiplatform.Endpoint.create(display_name="iris-endpoint")
model.deploy(endpoint=endpoint, machine_type="n1-standard-4", deployed_model_display_name="iris-1")
answer = endpoint.predict(instances=ROWS)
assert answer.predictions == NAMES, answer
assert answer.model_version_id == "1"
assert answer.deployed_model_id in {each.id for each in endpoint.list_models()}

credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(google.auth.transport.requests.Request())
response = requests.post(
    f"https://{REGION}-aiplatform.googleapis.com/v1/{endpoint.resource_name}:predict",
    headers={"Authorization": f"Bearer {credentials.token}"},
    json={"instances": ROWS},
    timeout=60,
)
assert (response.status_code, response.json()["predictions"]) == (200, NAMES), response.text

raw = endpoint.raw_predict(body=json.dumps({"instances": ROWS}), headers={"Content-Type": "application/json"})
assert (raw.status_code, raw.json()) == (200, {"predictions": NAMES}), raw.text

try:
    endpoint.predict(instances=[[1.0, 2.0]])
except Exception as error:
    print("refused:", error)
else:
    raise AssertionError("a row of two numbers was taken")

# A second version beside the first one.
second.deploy(endpoint=endpoint, machine_type="n1-standard-4", traffic_percentage=50)
assert sorted(endpoint.traffic_split.values()) == [50, 50]
versions = Counter(endpoint.predict(instances=ROWS).model_version_id for _ in range(60))
assert set(versions) == {"1", "2"}, versions
by_version = {each.model_version_id: each.id for each in endpoint.list_models()}
endpoint.update(traffic_split={by_version["2"]: 100, by_version["1"]: 0})
assert {endpoint.predict(instances=ROWS).model_version_id for _ in range(10)} == {"2"}

# Batches.
bucket.blob("in/rows.jsonl").upload_from_string("\n".join(map(json.dumps, ROWS * 50)))
bucket.blob("in/rows.csv").upload_from_string("a,b,c,d\n" + "\n".join(",".join(map(str, row)) for row in ROWS * 50))
jobs = {
    kind: model.batch_predict(
        job_display_name=f"iris-{kind}",
        gcs_source=f"gs://{BUCKET}/in/rows.{kind}",
        instances_format=kind,
        gcs_destination_prefix=f"gs://{BUCKET}/out",
        machine_type="n1-standard-4",
        sync=False,
    )
    for kind in ("jsonl", "csv")
}
for job in jobs.values():
    job.wait()
    assert job.state.name == "JOB_STATE_SUCCEEDED", job.error
    found = [
        json.loads(line)
        for blob in job.iter_outputs()
        if blob.name.rpartition("/")[2].startswith("prediction")
        for line in blob.download_as_text().splitlines()
    ]
    assert Counter((tuple(each["instance"]), each["prediction"]) for each in found) == {
        (tuple(row), name): 50 for row, name in zip(ROWS, NAMES, strict=True)
    }, found[:3]
    job.delete()

# What is deployed cannot be deleted; afterwards nothing is left.
try:
    model.delete()
except Exception as error:
    assert "deployed" in str(error), error
else:
    raise AssertionError("a deployed model was deleted")
endpoint.undeploy_all()
endpoint.delete()
model.delete()
assert (aiplatform.Model.list(), aiplatform.Endpoint.list()) == ([], [])
bucket.delete(force=True)
print(f"done over {TRANSPORT}")
