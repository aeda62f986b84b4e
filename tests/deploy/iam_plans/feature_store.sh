#!/bin/sh
# IAM for models served in models-prod; made by cpr iam plan.
set -eu

# The service agent, where Vertex AI was never used in the project yet.
gcloud beta services identity create --service=aiplatform.googleapis.com --project=models-prod

# A role of models-prod's own: Call Vertex AI endpoints
gcloud iam roles update cprKitCaller --project=models-prod '--title=Call Vertex AI endpoints' --permissions=aiplatform.endpoints.predict --stage=GA --quiet 2>/dev/null ||
  gcloud iam roles create cprKitCaller --project=models-prod '--title=Call Vertex AI endpoints' --permissions=aiplatform.endpoints.predict --stage=GA --quiet

# A role of models-prod's own: Let Vertex AI run models as a service account
gcloud iam roles update cprKitRunAs --project=models-prod '--title=Let Vertex AI run models as a service account' --permissions=iam.serviceAccounts.get,iam.serviceAccounts.getIamPolicy,iam.serviceAccounts.setIamPolicy --stage=GA --quiet 2>/dev/null ||
  gcloud iam roles create cprKitRunAs --project=models-prod '--title=Let Vertex AI run models as a service account' --permissions=iam.serviceAccounts.get,iam.serviceAccounts.getIamPolicy,iam.serviceAccounts.setIamPolicy --stage=GA --quiet

# A role of features-prod's own: Fetch feature values
gcloud iam roles update cprKitFeatureReader --project=features-prod '--title=Fetch feature values' --permissions=aiplatform.featureViews.fetchFeatureValues --stage=GA --quiet 2>/dev/null ||
  gcloud iam roles create cprKitFeatureReader --project=features-prod '--title=Fetch feature values' --permissions=aiplatform.featureViews.fetchFeatureValues --stage=GA --quiet

# who calls the endpoint: sends requests to endpoints of models-prod (predict, rawPredict), and may do nothing else there [general/iam-permissions]
gcloud projects add-iam-policy-binding models-prod --member=serviceAccount:app@models-prod.iam.gserviceaccount.com --role=projects/models-prod/roles/cprKitCaller --condition=None

# Vertex AI's service agent: Vertex AI prepares the account for the machines that serve the model [general/custom-service-account, step 4]
# the document names the predefined serviceAccountAdmin role here, which could also create, disable and delete accounts; this custom role has what of it can concern an account that exists. That it suffices is UNCONFIRMED: if DeployModel is refused over this account, grant the document's role on this one account
gcloud iam service-accounts add-iam-policy-binding runner@models-prod.iam.gserviceaccount.com --project=models-prod --member=serviceAccount:service-415104041262@gcp-sa-aiplatform.iam.gserviceaccount.com --role=projects/models-prod/roles/cprKitRunAs --condition=None

# the account that the container runs as: the container fetches feature values (fetchFeatureValues) as this account [general/iam-permissions]
gcloud projects add-iam-policy-binding features-prod --member=serviceAccount:runner@models-prod.iam.gserviceaccount.com --role=projects/features-prod/roles/cprKitFeatureReader --condition=None

# who pushes and deploys: uploads models, makes endpoints, deploys, shifts traffic: no narrower predefined role has all of these [general/access-control]
gcloud projects add-iam-policy-binding models-prod --member=user:jo@example.com --role=roles/aiplatform.user --condition=None

# who pushes and deploys: pushes the image, and looks up what is there [general/access-control]
gcloud artifacts repositories add-iam-policy-binding models --location=europe-west4 --project=models-prod --member=user:jo@example.com --role=roles/artifactregistry.writer

# who pushes and deploys: reads the artifacts, to tell a changed model from an unchanged one [general/access-control]
gcloud storage buckets add-iam-policy-binding gs://models-prod-artifacts --member=user:jo@example.com --role=roles/storage.objectViewer

# who pushes and deploys: names the account as the one that the container runs as (iam.serviceAccounts.actAs) [general/custom-service-account]
gcloud iam service-accounts add-iam-policy-binding runner@models-prod.iam.gserviceaccount.com --project=models-prod --member=user:jo@example.com --role=roles/iam.serviceAccountUser --condition=None

# callers get their right on the project: Vertex AI takes no IAM policy on a single endpoint (general/endpoint-access-control)
# Vertex AI itself lets the run-as account read the model's artifacts; it needs no binding for them
# the SDK's FeatureView also reads the view and its store, which needs aiplatform.featureViews.get and aiplatform.featureOnlineStores.get; a plain fetchFeatureValues call does not
# the deployer's right to a staging bucket is left out, which cpr up copies artifacts to where [deploy] names one; --staging gs://BUCKET adds it
