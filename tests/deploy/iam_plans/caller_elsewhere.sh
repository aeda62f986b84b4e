#!/bin/sh
# IAM for models served in models-prod; made by cpr iam plan.
set -eu

# A role of models-prod's own: Call Vertex AI endpoints
gcloud iam roles update cprKitCaller --project=models-prod '--title=Call Vertex AI endpoints' --permissions=aiplatform.endpoints.predict --stage=GA --quiet 2>/dev/null ||
  gcloud iam roles create cprKitCaller --project=models-prod '--title=Call Vertex AI endpoints' --permissions=aiplatform.endpoints.predict --stage=GA --quiet

# who calls the endpoint: sends requests to endpoints of models-prod (predict, rawPredict), and may do nothing else there [general/iam-permissions]
gcloud projects add-iam-policy-binding models-prod --member=serviceAccount:app@shop-prod.iam.gserviceaccount.com --role=projects/models-prod/roles/cprKitCaller --condition=None

# who pushes and deploys: uploads models, makes endpoints, deploys, shifts traffic: no narrower predefined role has all of these [general/access-control]
gcloud projects add-iam-policy-binding models-prod --member=user:jo@example.com --role=roles/aiplatform.user --condition=None

# who pushes and deploys: pushes the image, and looks up what is there [general/access-control]
gcloud artifacts repositories add-iam-policy-binding models --location=europe-west4 --project=models-prod --member=user:jo@example.com --role=roles/artifactregistry.writer

# who pushes and deploys: reads the artifacts, to tell a changed model from an unchanged one [general/access-control]
gcloud storage buckets add-iam-policy-binding gs://models-prod-artifacts --member=user:jo@example.com --role=roles/storage.objectViewer

# callers get their right on the project: Vertex AI takes no IAM policy on a single endpoint (general/endpoint-access-control)
# the deployer's right to a staging bucket is left out, which cpr up copies artifacts to where [deploy] names one; --staging gs://BUCKET adds it
