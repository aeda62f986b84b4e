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

# who calls the endpoint: sends requests to endpoints of models-prod (predict, rawPredict), and may do nothing else there [general/iam-permissions]
resource "google_project_iam_member" "caller_calls_c4c4ed34" {
  project = "models-prod"
  role    = google_project_iam_custom_role.cpr_kit_caller.id
  member  = "serviceAccount:app@shop-prod.iam.gserviceaccount.com"
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

# callers get their right on the project: Vertex AI takes no IAM policy on a single endpoint (general/endpoint-access-control)
# the deployer's right to a staging bucket is left out, which cpr up copies artifacts to where [deploy] names one; --staging gs://BUCKET adds it
