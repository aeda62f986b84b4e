import time

from wire import Server, serve


class Silent(Server):
    def predict(self, body):
        time.sleep(600)


serve(Silent)
