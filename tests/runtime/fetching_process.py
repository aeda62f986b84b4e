"""A process that fetches artifacts. Prints the folder, and ends with its standard input.

fetching_process.py URI           by itself
fetching_process.py URI fork      and forks a child, which ends before it
fetching_process.py URI workers   in two children, one after the other, which it keeps the files for
"""

import json
import os
import sys

from cpr_kit.errors import CprError
from cpr_kit.runtime import artifacts
from cpr_kit.runtime.storage import depot
from cpr_kit.runtime.storage.patience import Patience

if sys.argv[2:] == ["workers"]:
    artifacts.keep(sys.argv[1])
    for _ in range(2):
        worker = os.fork()
        if not worker:
            print(json.dumps({"folder": str(depot.fetch(sys.argv[1]))}), flush=True)
            sys.exit(0)
        os.waitpid(worker, 0)
    sys.stdin.read()
    sys.exit(0)
try:
    folder = depot.fetch(sys.argv[1], patience=Patience(attempts=3, pause_s=0.01))
except CprError as error:
    print(json.dumps({"error": str(error)}), flush=True)
    sys.exit(1)
if sys.argv[2:] == ["fork"]:
    child = os.fork()
    if not child:
        sys.exit(0)  # as a child ends that was not told to leave by os._exit
    os.waitpid(child, 0)
print(json.dumps({"folder": str(folder)}), flush=True)
sys.stdin.read()
