"""Serves a project, says who and where, and waits to be killed: python serves_until_killed.py FOLDER ENGINE TAG."""

import sys
import time

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.engine.choose import choose

folder, engine, tag = sys.argv[1:]
endpoint = LocalModel.build(folder, engine=choose(engine).engine, tag=tag).deploy_to_local_endpoint()
endpoint.serve()
print(endpoint.container.id, endpoint.assigned_host_port, flush=True)
time.sleep(600)
