from cpr_kit import PredictionHandler


class Csv(PredictionHandler):
    pass
