"""Trains a small classifier of handwritten digits."""

import keras
import numpy as np
from sklearn.datasets import load_digits

from nightshift.integrations.keras import NightshiftCallback


def load(path=None):
    """Return images and labels: those of `x` and `y` of an .npz file, or the digits of scikit-learn."""
    if path is None:
        x, y = load_digits(return_X_y=True)
    else:
        with np.load(path) as file:
            x, y = file["x"], file["y"]
    x = x.reshape(len(x), -1).astype("float32")
    return x / x.max(), y.astype("int32")


def train(run):
    """Train the model of a run."""
    keras.utils.set_random_seed(run.seed)
    callback = NightshiftCallback(run, monitor="val_loss")
    x, y = load()
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
        callback.shuffled((x[held_out:], y[held_out:]), batch_size=64),
        epochs=run.params.epochs,
        initial_epoch=callback.initial_epoch,
        validation_data=(x[:held_out], y[:held_out]),
        callbacks=[callback],
    )
    test = model.evaluate(x[:held_out], y[:held_out], return_dict=True)
    folder = run.scratch / "model"
    folder.mkdir()
    model.save(folder / "model.keras")
    run.register(folder, {f"test_{name}": value for name, value in test.items()})
