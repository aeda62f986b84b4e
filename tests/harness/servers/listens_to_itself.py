import os

from wire import serve

os.environ["CPR_SERVE_HOST"] = "127.0.0.1"
serve()
