"""A storage of its own process, to be killed: FOLDER and INDEX as arguments, the base URL on the first line."""

import sys
import threading
from pathlib import Path

from emu_storage_server import serving

from cpr_kit.emulator.storage.depot import Depot

with Depot(Path(sys.argv[1]), Path(sys.argv[2])) as depot, serving(depot) as base:
    print(base, flush=True)
    threading.Event().wait()
