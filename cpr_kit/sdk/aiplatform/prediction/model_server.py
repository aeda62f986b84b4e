"""Stands for google.cloud.aiplatform.prediction.model_server; `python -m` of it starts the kit's server."""

from cpr_kit.sdk.server import CprModelServer, ModelServer, set_number_of_workers_from_env

__all__ = ["CprModelServer", "ModelServer", "set_number_of_workers_from_env"]

if __name__ == "__main__":
    from cpr_kit.runtime.server import main

    main()
