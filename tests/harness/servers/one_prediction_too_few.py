from wire import Server, serve


class Short(Server):
    def answer(self, request):
        self.reply(200, {"predictions": [0] * (len(request["instances"]) - 1)})


serve(Short)
