"""The image classifiers as listed: `Sequential`, `compile("adam", …)`, `fit`, and the probabilities of the test part.

python -m benchmarks.listings.images DATA.npz OUT.npz SEED NAME
"""

import sys

import keras
import numpy as np
from keras import layers

data_path, out_path, seed, name = sys.argv[1:]
keras.utils.set_random_seed(int(seed))
data = np.load(data_path)
x_train, x_test = (data[key].astype("float32") / 255 for key in ("x_train", "x_test"))
y_train = data["y_train"]


def convolution(filters, pooled=True):
    return [layers.Conv2D(filters, (3, 3), activation="relu"), *([layers.MaxPooling2D((2, 2))] if pooled else [])]


HIDDEN = {
    "mnist-3conv": [
        *convolution(32), *convolution(64), *convolution(64, False), layers.Flatten(), layers.Dense(64, "relu")
    ],
    "mnist-2conv": [*convolution(32), *convolution(64), layers.Flatten(), layers.Dense(128, "relu")],
    "mnist-1conv": [*convolution(32), layers.Flatten(), layers.Dense(128, "relu")],
    "mnist-1conv-linear": [*convolution(32), layers.Flatten()],
    "cats-vs-dogs": [
        *convolution(32), *convolution(64), *convolution(128), layers.Flatten(), layers.Dense(128, "relu")
    ],
}  # fmt: skip
BATCH_SIZE = {
    "mnist-3conv": 32,
    "mnist-2conv": 64,
    "mnist-1conv": 32,
    "mnist-1conv-linear": 128,
    "cats-vs-dogs": 32,
}
EPOCHS = {
    "mnist-3conv": 5,
    "mnist-2conv": 5,
    "mnist-1conv": 5,
    "mnist-1conv-linear": 10,
    "cats-vs-dogs": 10,
}

two_classes = name == "cats-vs-dogs"
output = layers.Dense(1, activation="sigmoid") if two_classes else layers.Dense(10, activation="softmax")
model = keras.Sequential([keras.Input(x_train.shape[1:]), *HIDDEN[name], output])
loss = "binary_crossentropy" if two_classes else "sparse_categorical_crossentropy"
model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
held_out = (data["x_valid"].astype("float32") / 255, data["y_valid"]) if "x_valid" in data else None
model.fit(
    x_train, y_train, batch_size=BATCH_SIZE[name], epochs=EPOCHS[name], validation_data=held_out, verbose=2
)  # fmt: skip
probabilities = model.predict(x_test, verbose=0)
np.savez(out_path, probabilities=np.hstack([1 - probabilities, probabilities]) if two_classes else probabilities)
