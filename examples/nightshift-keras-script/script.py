"""Trains a small classifier of handwritten digits, or of the images of an .npz file: python script.py [FILE]."""

import sys

import keras
import numpy as np
from sklearn.datasets import load_digits


def load(path=None):
    """Return images and labels: those of `x` and `y` of an .npz file, or the digits of scikit-learn."""
    if path is None:
        x, y = load_digits(return_X_y=True)
    else:
        with np.load(path) as file:
            x, y = file["x"], file["y"]
    x = x.reshape(len(x), -1).astype("float32")
    return x / x.max(), y.astype("int32")


def main():
    keras.utils.set_random_seed(7)
    x, y = load(*sys.argv[1:])
    held_out = len(x) // 5
    layers = [
        keras.layers.Input(x.shape[1:]),
        keras.layers.Dense(64, "relu"),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(int(y.max()) + 1, "softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        x[held_out:],
        y[held_out:],
        batch_size=64,
        epochs=10,
        validation_data=(x[:held_out], y[:held_out]),
    )
    test = model.evaluate(x[:held_out], y[:held_out], return_dict=True)
    model.save("model.keras")
    print(test)


if __name__ == "__main__":
    main()
