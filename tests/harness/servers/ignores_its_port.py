import os

from wire import serve

os.environ["AIP_HTTP_PORT"] = "0"
serve()
