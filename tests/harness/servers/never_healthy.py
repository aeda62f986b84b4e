from wire import Server, serve


class NeverHealthy(Server):
    def health(self):
        self.fail(503, "loading")


serve(NeverHealthy)
