import os

from wire import Server, serve


class Brittle(Server):
    def fail(self, status, message):
        os._exit(1)


serve(Brittle)
