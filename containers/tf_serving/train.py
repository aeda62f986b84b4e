"""Write model/1/: a SavedModel that takes JPEG files, decodes them in its graph and says which colour they have.

    docker run --rm --entrypoint python -v "$PWD:/w" -w /w IMAGE_WITH_TENSORFLOW train.py

TensorFlow Serving takes a folder of numbered version folders: model/ is the artifact folder, 1 the version.
"""

import sys
from pathlib import Path

import tensorflow as tf

SIZE = (32, 32)


class Colours(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sharpness = tf.Variable(10.0)

    def decoded(self, image: tf.Tensor) -> tf.Tensor:
        pixels = tf.image.convert_image_dtype(tf.io.decode_jpeg(image, channels=3), tf.float32)
        return tf.image.resize(pixels, SIZE)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="bytes_inputs")])
    def serve(self, bytes_inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.map_fn(self.decoded, bytes_inputs, fn_output_signature=tf.TensorSpec((*SIZE, 3), tf.float32))
        return {"scores": tf.nn.softmax(self.sharpness * tf.reduce_mean(images, axis=(1, 2)))}


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("model")
    model = Colours()
    tf.saved_model.save(model, str(target / "1"), signatures={"serving_default": model.serve})
