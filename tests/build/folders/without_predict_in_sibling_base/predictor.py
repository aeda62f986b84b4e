from loading import Loading


class Doubler(Loading):
    pass
