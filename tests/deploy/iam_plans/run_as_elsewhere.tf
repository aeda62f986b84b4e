# IAM for models served in models-prod; made by cpr iam plan.

terraform {
  required_providers {
    google = {
      source = "hashicorp/google"
    }
  }
}

resource "google_project_iam_custom_role" "cpr_kit_caller" {
  project     = "models-prod"
  role_id     = "cprKitCaller"
  title       = "Call Vertex AI endpoints"
  permissions = ["aiplatform.endpoints.predict"]
}

resource "google_project_iam_custom_role" "cpr_kit_run_as" {
  project     = "identities-prod"
  role_id     = "cprKitRunAs"
  title       = "Let Vertex AI run models as a service account"
  permissions = ["iam.serviceAccounts.get", "iam.serviceAccounts.getIamPolicy", "iam.serviceAccounts.setIamPolicy"]
}

# who calls the endpoint: sends requests to endpoints of models-prod (predict, rawPredict), and may do nothing else there [general/iam-permissions]
resource "google_project_iam_member" "caller_calls_bb4026e8" {
  project = "models-prod"
  role    = google_project_iam_custom_role.cpr_kit_caller.id
  member  = "serviceAccount:app@models-prod.iam.gserviceaccount.com"
}

# Vertex AI's service agent: Vertex AI prepares the account for the machines that serve the model [general/custom-service-account, step 4]
# the document names the predefined serviceAccountAdmin role here, which could also create, disable and delete accounts; this custom role has what of it can concern an account that exists. That it suffices is UNCONFIRMED: if DeployModel is refused over this account, grant the document's role on this one account
resource "google_service_account_iam_member" "vertex_prepares_the_account" {
  service_account_id = "projects/identities-prod/serviceAccounts/runner@identities-prod.iam.gserviceaccount.com"
  role               = google_project_iam_custom_role.cpr_kit_run_as.id
  member             = "serviceAccount:service-415104041262@gcp-sa-aiplatform.iam.gserviceaccount.com"
}

# Vertex AI's service agent: the account belongs to identities-prod: Vertex AI of models-prod makes its tokens [general/custom-service-account]
resource "google_service_account_iam_member" "vertex_makes_tokens" {
  service_account_id = "projects/identities-prod/serviceAccounts/runner@identities-prod.iam.gserviceaccount.com"
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = "serviceAccount:service-415104041262@gcp-sa-aiplatform.iam.gserviceaccount.com"
}

# who pushes and deploys: uploads models, makes endpoints, deploys, shifts traffic: no narrower predefined role has all of these [general/access-control]
resource "google_project_iam_member" "deployer_deploys" {
  project = "models-prod"
  role    = "roles/aiplatform.user"
  member  = "user:jo@example.com"
}

# who pushes and deploys: pushes the image, and looks up what is there [general/access-control]
resource "google_artifact_registry_repository_iam_member" "deployer_pushes_the_image" {
  project    = "models-prod"
  location   = "europe-west4"
  repository = "models"
  role       = "roles/artifactregistry.writer"
  member     = "user:jo@example.com"
}

# who pushes and deploys: reads the artifacts, to tell a changed model from an unchanged one [general/access-control]
resource "google_storage_bucket_iam_member" "deployer_reads_the_artifacts" {
  bucket = "models-prod-artifacts"
  role   = "roles/storage.objectViewer"
  member = "user:jo@example.com"
}

# who pushes and deploys: names the account as the one that the container runs as (iam.serviceAccounts.actAs) [general/custom-service-account]
resource "google_service_account_iam_member" "deployer_acts_as_the_account" {
  service_account_id = "projects/identities-prod/serviceAccounts/runner@identities-prod.iam.gserviceaccount.com"
  role               = "roles/iam.serviceAccountUser"
  member             = "user:jo@example.com"
}

# callers get their right on the project: Vertex AI takes no IAM policy on a single endpoint (general/endpoint-access-control)
# Vertex AI itself lets the run-as account read the model's artifacts; it needs no binding for them
# an organisation policy of identities-prod may forbid the use of its service accounts in other projects (UNCONFIRMED); DeployModel then says so
# the deployer's right to a staging bucket is left out, which cpr up copies artifacts to where [deploy] names one; --staging gs://BUCKET adds it
