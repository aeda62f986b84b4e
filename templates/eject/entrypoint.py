"""What the container starts: the kit's model server, for what the Dockerfile's variables name. This file is yours.

To make the handler yourself, hand it to the server instead:

    from cpr_kit.runtime.server import ModelServer

    ModelServer(MyHandler(os.environ["AIP_STORAGE_URI"], predictor=MyPredictor)).start()
"""

import runpy

if __name__ == "__main__":
    runpy.run_module("cpr_kit.runtime", run_name="__main__", alter_sys=True)
