"""The listing `mnist-3conv`, trained until its accuracy on the test part is high enough, looked at after each epoch.

python -m benchmarks.listings.until_accurate DATA.npz OUT.npz SEED ACCURACY
"""

import sys

import keras
import numpy as np
from keras import layers

data_path, out_path, seed, wanted = sys.argv[1:]
keras.utils.set_random_seed(int(seed))
data = np.load(data_path)
x_train, x_test = (data[key].astype("float32") / 255 for key in ("x_train", "x_test"))
y_train, y_test = data["y_train"], data["y_test"]
model = keras.Sequential([
    keras.Input(x_train.shape[1:]),
    layers.Conv2D(32, (3, 3), activation="relu"),
    layers.MaxPooling2D((2, 2)),
    layers.Conv2D(64, (3, 3), activation="relu"),
    layers.MaxPooling2D((2, 2)),
    layers.Conv2D(64, (3, 3), activation="relu"),
    layers.Flatten(),
    layers.Dense(64, "relu"),
    layers.Dense(10, activation="softmax"),
])  # fmt: skip
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])


class Until(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = logs["val_accuracy"] >= float(wanted)


model.fit(
    x_train, y_train, batch_size=32, epochs=20, validation_data=(x_test, y_test), verbose=2, callbacks=[Until()]
)  # fmt: skip
np.savez(out_path, probabilities=model.predict(x_test, verbose=0))
