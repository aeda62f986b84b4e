import json
from typing import TYPE_CHECKING

import cv2
import google.cloud.storage
import numpy as np
import scale
import yaml
from cpr_kit import SklearnPredictor

if TYPE_CHECKING:
    import torch
try:
    import onnx
except ImportError:
    onnx = None


class Doubler(SklearnPredictor):
    pass
