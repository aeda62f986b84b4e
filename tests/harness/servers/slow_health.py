import time

from wire import Server, serve


class Slow(Server):
    def health(self):
        time.sleep(20)
        self.reply(200, {})


serve(Slow)
