import os
import socket

with socket.create_server(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"]))) as server:
    while True:
        server.accept()[0].close()
