import os

import uvicorn
from starlette.applications import Starlette

if __name__ == "__main__":
    uvicorn.run(Starlette(), host="0.0.0.0", port=int(os.environ["AIP_HTTP_PORT"]))
