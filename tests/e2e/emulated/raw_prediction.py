"""A server of one's own behind rawPredict: bodies that are no JSON, by the SDK's classes and by the client below them.

Arguments: the image, and the transport: grpc or rest.
"""

import hashlib
import sys

from google.api import httpbody_pb2
from google.cloud import aiplatform, aiplatform_v1

IMAGE, TRANSPORT = sys.argv[1:]
PROJECT, REGION = "my-project", "us-central1"
CSV = b"1.5,2\r\n3,4\n" * 100
IMAGE_BYTES = bytes(range(256)) * 4000  # a good 1 MB that is no text


def said(kind, body):
    return f"{kind} {len(body)} {hashlib.sha256(body).hexdigest()}"


options = {} if TRANSPORT == "grpc" else {"api_transport": TRANSPORT}
aiplatform.init(project=PROJECT, location=REGION, **options)
model = aiplatform.Model.upload(
    display_name="foreign",
    serving_container_image_uri=IMAGE,
    serving_container_predict_route="/score",
    serving_container_health_route="/alive",
    serving_container_ports=[7080],
)
endpoint = aiplatform.Endpoint.create(display_name="raw", labels={"kind": "raw"})
endpoint.deploy(model, deployed_model_display_name="raw", machine_type="n1-standard-4")

for kind, body in (("text/csv", CSV), ("image/jpeg", IMAGE_BYTES)):
    answer = endpoint.raw_predict(body=body, headers={"Content-Type": kind})
    assert answer.text == said(kind, body), answer.text

if TRANSPORT == "grpc":  # over REST the client below wraps the body into JSON, which no server can be meant to read
    client = aiplatform_v1.PredictionServiceClient(
        client_options={"api_endpoint": f"{REGION}-aiplatform.googleapis.com"},
        transport=TRANSPORT,
    )
    request = aiplatform_v1.RawPredictRequest(
        endpoint=endpoint.resource_name,
        http_body=httpbody_pb2.HttpBody(data=CSV, content_type="text/csv"),
    )
    answer = client.raw_predict(request=request)
    assert answer.data.decode() == said("text/csv", CSV), answer
    streamed = client.stream_raw_predict(
        request=aiplatform_v1.StreamRawPredictRequest(endpoint=endpoint.resource_name, http_body=request.http_body)
    )
    assert b"".join(part.data for part in streamed).decode() == said("text/csv", CSV)

assert endpoint.predict(instances=[[1, 2], [3, 4.5]]).predictions == [3, 7.5]

endpoint.delete(force=True)
model.delete()
print(f"done over {TRANSPORT}")
