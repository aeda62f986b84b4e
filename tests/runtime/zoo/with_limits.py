import dataclasses
import json
import os

from cpr_kit.runtime import server
from cpr_kit.runtime.workers.limits import Limits

if __name__ == "__main__":
    server.main(limits=dataclasses.replace(Limits.from_environ(), **json.loads(os.environ["LIMITS"])))
