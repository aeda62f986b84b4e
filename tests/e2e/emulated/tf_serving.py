"""The TensorFlow Serving binary as the container: its own command, flags, routes and port.

Arguments: the image, and the transport: grpc or rest.
"""

import base64
import json
import sys

from google.cloud import aiplatform, storage

IMAGE, TRANSPORT = sys.argv[1:]
PROJECT, REGION, BUCKET, NAME = "my-project", "us-central1", "my-project-tf", "example_20260101000000"

bucket = storage.Client(project=PROJECT).create_bucket(BUCKET)
bucket.blob("model/1/saved_model.json").upload_from_string(json.dumps({"factor": 2}))

options = {} if TRANSPORT == "grpc" else {"api_transport": TRANSPORT}
aiplatform.init(project=PROJECT, location=REGION, staging_bucket=f"gs://{BUCKET}", **options)
model = aiplatform.Model.upload(
    display_name=NAME,
    artifact_uri=f"gs://{BUCKET}/model",
    serving_container_image_uri=IMAGE,
    serving_container_health_route=f"/v1/models/{NAME}",
    serving_container_predict_route=f"/v1/models/{NAME}:predict",
    serving_container_command=["/usr/bin/tensorflow_model_server"],
    serving_container_args=[
        f"--model_name={NAME}",
        "--model_base_path=$(AIP_STORAGE_URI)",
        "--rest_api_port=8080",
        "--port=8500",
        "--file_system_poll_wait_seconds=31540000",
    ],
    serving_container_ports=[8080],
)
bucket.blob("model/1/saved_model.json").upload_from_string(json.dumps({"factor": 3}))  # too late for this version

endpoint = model.deploy(machine_type="n1-standard-4")
assert endpoint.predict(instances=[[1.5, 2], [0, 4]]).predictions == [[3, 4], [0, 8]]
photo = bytes(range(256)) * 100
encoded = base64.b64encode(photo).decode()
assert endpoint.predict(instances=[{"bytes_inputs": {"b64": encoded}}]).predictions == [len(photo)]

bucket.blob("in.jsonl").upload_from_string("\n".join(json.dumps([n, n + 1]) for n in range(10)))
job = model.batch_predict(
    job_display_name="tf",
    gcs_source=f"gs://{BUCKET}/in.jsonl",
    gcs_destination_prefix=f"gs://{BUCKET}/out",
    machine_type="n1-standard-4",
    starting_replica_count=1,
    max_replica_count=1,
    sync=False,
)
job.wait()
lines = [
    json.loads(line)
    for blob in job.iter_outputs()
    if blob.name.split("/")[-1].startswith("prediction")
    for line in blob.download_as_text().splitlines()
]
expected = [([n, n + 1], [2 * n, 2 * n + 2]) for n in range(10)]
assert sorted((line["instance"], line["prediction"]) for line in lines) == expected, lines

endpoint.undeploy_all()
endpoint.delete()
model.delete()
job.delete()
bucket.delete(force=True)
print(f"done over {TRANSPORT}")
