from wire import Server, serve


class Strict(Server):
    def answer(self, request):
        self.fail(400, "each instance needs 4 numbers")


serve(Strict)
