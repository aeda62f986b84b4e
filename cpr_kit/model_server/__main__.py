"""`python -m cpr_kit.model_server`: what /usr/bin/tensorflow_model_server starts in the stand-in image."""

import os
import signal
import sys

# Process 1 of a container ignores what it has no handler for, and loading a model takes seconds.
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: os._exit(0))

from cpr_kit.model_server.server import main  # noqa: E402  see above

sys.exit(main(sys.argv[1:]))
