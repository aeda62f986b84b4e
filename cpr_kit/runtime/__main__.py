"""`python -m cpr_kit.runtime`: what a serving container starts."""

from cpr_kit.runtime.server import main

main()
