"""`python -m cpr_kit.runtime`: what a serving container starts."""

import os
import signal

# Process 1 of a container ignores what it has no handler for: without this, `docker stop` in the moment before the
# server has its own would wait for its time-out.
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: os._exit(0))

from cpr_kit.runtime.server import main  # noqa: E402  see above

main()
