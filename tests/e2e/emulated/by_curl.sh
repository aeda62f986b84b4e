#!/bin/sh
# The tutorials' calls by curl alone: upload, endpoint, deployment, predict, rawPredict, and back.
# Argument: the image.
set -eu

IMAGE=$1
PROJECT=my-project
REGION=us-central1
API=https://$REGION-aiplatform.googleapis.com/v1
PARENT=projects/$PROJECT/locations/$REGION
TOKEN=$(gcloud auth print-access-token)

call() { # METHOD PATH [BODY]
    curl -sS --fail-with-body -X "$1" -H "Authorization: Bearer $TOKEN" \
        -H "Content-Type: application/json; charset=utf-8" ${3+-d "$3"} "$API/$2"
}

field() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda value, key: value[key], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }

finished() { # OPERATION: its last answer
    while answer=$(call GET "$1") && ! printf %s "$answer" | grep -q '"done": true'; do sleep 1; done
    printf %s "$answer"
}

OPERATION=$(call POST "$PARENT/models:upload" "{\"model\": {\"displayName\": \"by-curl\", \"containerSpec\": {
    \"imageUri\": \"$IMAGE\", \"ports\": [{\"containerPort\": 8080}],
    \"predictRoute\": \"/score\", \"healthRoute\": \"/alive\"}}}" | field name)
MODEL=$(finished "$OPERATION" | field response.model)
OPERATION=$(call POST "$PARENT/endpoints" '{"displayName": "by-curl"}' | field name)
ENDPOINT=$(finished "$OPERATION" | field response.name)
OPERATION=$(call POST "$ENDPOINT:deployModel" "{\"deployedModel\": {\"model\": \"$MODEL\", \"dedicatedResources\": {
    \"machineSpec\": {\"machineType\": \"n1-standard-2\"}, \"minReplicaCount\": 1, \"maxReplicaCount\": 1}},
    \"trafficSplit\": {\"0\": 100}}" | field name)
DEPLOYED=$(finished "$OPERATION" | field response.deployedModel.id)

echo '{"instances": [[1, 2], [3, 4.5]]}' >instances.json
curl -sS --fail-with-body -X POST -H "Authorization: Bearer $(gcloud auth print-access-token)" \
    -H "Content-Type: application/json" -d @instances.json \
    "https://$REGION-aiplatform.googleapis.com/v1/$ENDPOINT:predict"
echo
printf '1,2\n3,4\n' >instances.csv
curl -sS --fail-with-body -X POST -H "Authorization: Bearer $TOKEN" -H "Content-Type: text/csv" \
    --data-binary @instances.csv "https://$REGION-aiplatform.googleapis.com/v1/$ENDPOINT:rawPredict"
echo

finished "$(call POST "$ENDPOINT:undeployModel" "{\"deployedModelId\": \"$DEPLOYED\"}" | field name)" >/dev/null
finished "$(call DELETE "$ENDPOINT" | field name)" >/dev/null
finished "$(call DELETE "$MODEL" | field name)" >/dev/null
call GET "$PARENT/models"
call GET "$PARENT/endpoints"
