from wire import Server, serve


class Foreign(Server):
    """Errors in another server's form, and 500 for what is the caller's fault."""

    def predict(self, body):
        self.reply(500, {"detail": "An exception KeyError occurred"})


serve(Foreign)
