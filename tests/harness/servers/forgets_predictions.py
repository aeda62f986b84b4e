from wire import Server, serve


class Forgetful(Server):
    def answer(self, request):
        self.reply(200, {"results": [0] * len(request["instances"])})


serve(Forgetful)
