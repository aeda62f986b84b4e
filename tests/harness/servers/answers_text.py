from wire import Server, serve


class Text(Server):
    def answer(self, request):
        self.reply(200, b"versicolor", "text/plain")


serve(Text)
