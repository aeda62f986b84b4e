from wire import Server, serve


class Once(Server):
    asked = 0

    def health(self):
        Once.asked += 1
        self.reply(200 if Once.asked == 1 else 500, {})


serve(Once)
