"""Photographs in, the five likeliest of ImageNet's thousand labels out."""

import torch
from efficientnet_lite_pytorch import EfficientNet

from cpr_kit import ImagePreprocessor, Predictor
from cpr_kit.runtime import artifacts

MOST = 5


class ImageNetPredictor(Predictor):
    media_types = ImagePreprocessor.media_types
    max_batch_rows = 16

    def load(self, artifacts_uri):
        folder = artifacts.fetch(artifacts_uri)
        self.labels = (folder / "labels.txt").read_text("utf-8").splitlines()
        self.network = EfficientNet.from_name("efficientnet-lite0", num_classes=len(self.labels))
        # weights_only: tensors are read and no code of the file is run.
        state = torch.load(folder / "efficientnet-lite0.pth", map_location="cpu", weights_only=True)
        self.network.load_state_dict(state)
        self.network.eval()
        # EfficientNet-Lite was trained on pixels from -1 to 1, not with the mean and deviation of ImageNet.
        self.images = ImagePreprocessor(size=(224, 224), scale=1, mean=127, std=128, layout="chw")

    def preprocess(self, request):
        return self.images(request)

    def predict(self, pixels):
        with torch.inference_mode():
            return torch.softmax(self.network(torch.from_numpy(pixels)), dim=1).numpy()

    def postprocess(self, scores):
        best = (-scores).argsort(axis=1, kind="stable")[:, :MOST]
        return {
            "predictions": [
                {
                    "labels": [self.labels[place] for place in places],
                    "probabilities": [round(float(row[place]), 3) for place in places],
                }
                for row, places in zip(scores, best, strict=True)
            ]
        }
