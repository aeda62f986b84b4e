#!/bin/sh
# Without a command of its own the container starts as tensorflow/serving does: MODEL_NAME under MODEL_BASE_PATH. Where
# Vertex AI's variables are, it starts as the prebuilt TensorFlow images do: any arguments stand after these and win.
if [ -n "$AIP_HTTP_PORT" ]; then
  exec tensorflow_model_server --model_name=default "--model_base_path=$AIP_STORAGE_URI" --unversioned \
    "--rest_api_port=$AIP_HTTP_PORT" --port=8500 --file_system_poll_wait_seconds=31540000 \
    "--health_route=$AIP_HEALTH_ROUTE" "--predict_route=$AIP_PREDICT_ROUTE" "$@"
fi
exec tensorflow_model_server --port=8500 --rest_api_port=8501 "--model_name=${MODEL_NAME:-model}" \
  "--model_base_path=${MODEL_BASE_PATH:-/models}/${MODEL_NAME:-model}" "$@"
