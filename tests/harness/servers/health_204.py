from wire import Server, serve


class NoContent(Server):
    def health(self):
        self.send_response(204)
        self.end_headers()


serve(NoContent)
