"""Makes the SavedModels beside it. It needs tensorflow-cpu, which the kit's own environment does not have:

    python -m venv /tmp/tf && /tmp/tf/bin/pip install tensorflow-cpu==2.21.0
    /tmp/tf/bin/python tests/savedmodel/models/make.py

The weights are constants, so the folders are the same in what they say whenever they are made.
"""

import shutil
from pathlib import Path

import tensorflow as tf

HERE = Path(__file__).parent
SPECIES = ["Adelie", "Chinstrap", "Gentoo"]


def spec(dtype, name, shape=(None,)):
    return tf.TensorSpec(shape, dtype, name)


class Penguins(tf.Module):
    """The two signatures of the raw prediction tutorial: named features, and serialised examples."""

    @tf.function(
        input_signature=[
            spec(tf.string, "island"),
            spec(tf.float32, "culmen_length_mm"),
            spec(tf.float32, "culmen_depth_mm"),
            spec(tf.float32, "flipper_length_mm"),
            spec(tf.float32, "body_mass_g"),
            spec(tf.string, "sex"),
        ]
    )
    def predict(self, island, culmen_length_mm, culmen_depth_mm, flipper_length_mm, body_mass_g, sex):
        features = tf.stack([culmen_length_mm, culmen_depth_mm, flipper_length_mm / 10, body_mass_g / 100], axis=1)
        dream = tf.cast(tf.equal(island, "DREAM"), tf.float32) + tf.cast(tf.equal(sex, "MALE"), tf.float32)
        weights = tf.constant([[-0.3, 0.3, 0.1], [0.5, 0.1, -0.6], [-0.2, 0.0, 0.3], [0.0, -0.1, 0.2]])
        logits = tf.matmul(features, weights) + dream[:, None] * tf.constant([[0.1, 0.5, -0.9]])
        best = tf.argmax(logits, axis=1)
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "class_ids": best[:, None],
            "classes": tf.gather(tf.constant(SPECIES), best)[:, None],
        }

    @tf.function(input_signature=[spec(tf.string, "examples")])
    def parsed(self, examples):
        kinds = {"island": tf.string, "sex": tf.string}
        numbers = ("culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g")
        fields = {name: tf.io.FixedLenFeature([], kinds.get(name, tf.float32)) for name in (*kinds, *numbers)}
        return self.predict(**tf.io.parse_example(examples, fields))


class Image(tf.Module):
    @tf.function(input_signature=[spec(tf.string, "bytes_inputs")])
    def serve(self, bytes_inputs):
        def decode(item):
            pixels = tf.io.decode_jpeg(item, channels=3)
            return tf.image.resize(tf.image.convert_image_dtype(pixels, tf.float32), [8, 8])

        pixels = tf.map_fn(decode, bytes_inputs, fn_output_signature=tf.float32)
        return {"mean": tf.reduce_mean(pixels, axis=[1, 2])}


class Shapes(tf.Module):
    """Signatures that differ in the form that a request must have."""

    @tf.function(input_signature=[spec(tf.float32, "x", [None, 2, 3]), spec(tf.float32, "scale", [])])
    def scaled(self, x, scale):
        return {"y": x * scale}

    @tf.function(input_signature=[spec(tf.int64, "ids", [2, 4]), spec(tf.bool, "mask", [2, 4])])
    def fixed(self, ids, mask):
        return {"sum": tf.reduce_sum(tf.where(mask, ids, 0), axis=1)}

    @tf.function(input_signature=[spec(tf.uint8, "pixels", [None, None, None, 3])])
    def pixels(self, pixels):
        return {"mean": tf.reduce_mean(tf.cast(pixels, tf.float32), axis=[1, 2, 3])}

    @tf.function(input_signature=[spec(tf.bfloat16, "a", [None]), spec(tf.float16, "b", [None])])
    def narrow(self, a, b):
        return {"sum": tf.cast(a, tf.float32) + tf.cast(b, tf.float32)}


def save(module, name, signatures):
    shutil.rmtree(HERE / name, ignore_errors=True)
    # No source file of this machine's is named in the graph.
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(module, str(HERE / name), signatures=signatures, options=options)


def save_estimator(name):
    """As an estimator of TensorFlow 1 exports itself: one graph, a classify signature, the first ParseExample."""
    shutil.rmtree(HERE / name, ignore_errors=True)
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        serialised = v1.placeholder(tf.string, [None], "input_example_tensor")
        length, kind = tf.raw_ops.ParseExample(
            serialized=serialised, names=[], sparse_keys=["tags"], sparse_types=[tf.string],
            dense_keys=["length", "species"], dense_defaults=[[], "Adelie"], dense_shapes=[[2], []],
        )[3]  # fmt: skip
        scores = tf.nn.softmax(length)
        build = v1.saved_model.build_tensor_info
        classify = v1.saved_model.build_signature_def(
            {"inputs": build(serialised)}, {"scores": build(scores)}, "tensorflow/serving/classify"
        )
        predict = v1.saved_model.build_signature_def(
            {"length": build(length), "kind": build(kind)}, {"scores": build(scores)}, "tensorflow/serving/predict"
        )
        builder = v1.saved_model.Builder(str(HERE / name))
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": classify, "predict": predict}, strip_default_attrs=True
        )
        builder.save()


def main():
    save_estimator("estimator")
    penguins = Penguins()
    save(penguins, "penguins/1", {"serving_default": penguins.parsed, "predict": penguins.predict})
    image = Image()
    save(image, "image", {"serving_default": image.serve})
    shapes = Shapes()
    # A signature's name is not its function's: one of them is misspelled easily.
    names = {"serving_default": shapes.scaled, "fixed": shapes.fixed, "pixels": shapes.pixels, "narrow": shapes.narrow}
    save(shapes, "shapes", names)


if __name__ == "__main__":
    main()
