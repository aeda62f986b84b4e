import os

from wire import Server, serve


class Mortal(Server):
    def predict(self, body):
        print("out of memory", flush=True)
        os._exit(137)


serve(Mortal)
