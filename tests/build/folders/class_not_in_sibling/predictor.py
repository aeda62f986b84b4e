import json  # noqa: F401

from models import Doubler  # noqa: F401
