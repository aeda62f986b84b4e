from cpr_kit import SklearnPredictor  # noqa: F401


class Doubler(SklearnPredicter):  # noqa: F821
    pass
