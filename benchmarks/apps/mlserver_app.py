"""MLServer with a runtime of its own kind, for the work that is no model file; a model file has mlserver_sklearn."""

import numpy as np
import work
from mlserver import MLModel, types
from mlserver.codecs import NumpyCodec


class Bench(MLModel):
    async def load(self) -> bool:
        self.work = work.load()
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("predict", np.asarray(self.work(rows)))
        return types.InferenceResponse(model_name=self.name, outputs=[output])
