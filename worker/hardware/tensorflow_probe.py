"""Whether TensorFlow computes on the GPU of this process."""

from __future__ import annotations

import tensorflow as tf


def problem() -> str | None:
    """Return why TensorFlow does not work on the GPU; None: it does. Raises what TensorFlow raises."""
    if not tf.test.is_built_with_cuda():
        return f"this build of TensorFlow ({tf.__version__}) has no CUDA"
    found = tf.config.list_physical_devices("GPU")
    if not found:
        return (
            f"TensorFlow {tf.__version__} finds no GPU: its CUDA libraries are missing, or do not fit the driver (pip "
            "install 'tensorflow[and-cuda]', in an environment without torch)"
        )
    tf.config.experimental.set_memory_growth(found[0], True)
    with tf.device("/gpu:0"):
        square = tf.ones((64, 64))
        picture, kernel = tf.ones((1, 8, 8, 1)), tf.ones((3, 3, 1, 1))
        product = float(tf.reduce_sum(tf.matmul(square, square)))
        convolved = float(tf.reduce_sum(tf.nn.conv2d(picture, kernel, 1, "VALID")))
    right = (product, convolved) == (64.0**3, 9.0 * 36)
    return None if right else f"wrong results: a product of {product} and a convolution of {convolved}"
