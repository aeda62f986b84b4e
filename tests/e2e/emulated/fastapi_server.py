"""A FastAPI application as the container, on a dedicated endpoint and then on a shared one.

Arguments: the image, and the transport: grpc or rest.
"""

import sys

from google.cloud import aiplatform

IMAGE, TRANSPORT = sys.argv[1:]

options = {} if TRANSPORT == "grpc" else {"api_transport": TRANSPORT}
aiplatform.init(project="my-project", location="europe-west4", **options)
model = aiplatform.Model.upload(
    display_name="fastapi",
    serving_container_image_uri=IMAGE,
    serving_container_predict_route="/predict",
    serving_container_health_route="/ping",
    serving_container_ports=[8080],
    serving_container_environment_variables={"FACTOR": "2"},
)
dedicated = aiplatform.Endpoint.create(display_name="dedicated", dedicated_endpoint_enabled=True)
shared = aiplatform.Endpoint.create(display_name="shared")
for endpoint in (dedicated, shared):
    model.deploy(endpoint=endpoint, machine_type="n1-standard-4", min_replica_count=1, max_replica_count=1)
    assert endpoint.predict(instances=[1, 2.5]).predictions == [2, 5]

ids = [each.id for each in shared.list_models()]
shared.undeploy(ids[0])
shared.delete()
dedicated.delete(force=True)
model.delete()
assert (aiplatform.Model.list(), aiplatform.Endpoint.list()) == ([], [])
print(f"done over {TRANSPORT}")
