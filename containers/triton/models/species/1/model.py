"""Probabilities to the name of the most probable species."""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as triton

SPECIES = np.array([b"setosa", b"versicolor", b"virginica"], dtype=np.object_)


class TritonPythonModel:
    def execute(self, requests: list[triton.InferenceRequest]) -> list[triton.InferenceResponse]:
        return [triton.InferenceResponse([self.answer(request)]) for request in requests]

    def answer(self, request: triton.InferenceRequest) -> triton.Tensor:
        probabilities = triton.get_input_tensor_by_name(request, "probabilities").as_numpy()
        return triton.Tensor("species", SPECIES[probabilities.argmax(axis=1)].reshape(-1, 1))
