"""Brings each feature to mean 0 and standard deviation 1."""

from cpr_kit import Preprocessor


class Scaler(Preprocessor):
    def fit(self, instances):
        self.mean, self.std = instances.mean(0), instances.std(0)
        return self

    def transform(self, instances):
        return (instances - self.mean) / self.std
