import time

from wire import Server, serve


class Hesitant(Server):
    def health(self):
        time.sleep(0.3)
        self.fail(503, "loading")


serve(Hesitant)
