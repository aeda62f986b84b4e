import time

from wire import Server, serve


class Busy(Server):
    busy = 0

    def health(self):
        self.reply(503 if Busy.busy else 200, {})

    def answer(self, request):
        Busy.busy += 1
        time.sleep(0.3)
        Busy.busy -= 1
        super().answer(request)


serve(Busy)
