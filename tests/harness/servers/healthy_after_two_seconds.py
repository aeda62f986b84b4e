import time

from wire import Server, serve

STARTED = time.monotonic()


class LateHealthy(Server):
    def health(self):
        if time.monotonic() - STARTED < 2:
            self.fail(503, "loading")
        else:
            self.reply(200, {})


serve(LateHealthy)
