"""A small Keras model with all that has state: batch norm, dropout, and a variable beside the weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from nightshift.families.tensorflow import ImageClassifier


@keras.saving.register_keras_serializable("nightshift_tests")
class Counted(layers.Layer):
    """Scales by the number of training steps."""

    def build(self, shape: Any) -> None:
        self.calls = self.add_weight(name="calls", shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.calls.assign_add(1)
        return x * (1 + 0.01 * keras.ops.cast(self.calls, x.dtype))


class SmallClassifier(ImageClassifier):
    def network(self) -> Any:
        return keras.Sequential(
            [
                keras.Input(self.image),
                layers.Conv2D(6, 3, use_bias=False, name="stem"),
                layers.BatchNormalization(momentum=0.9, name="norm"),
                layers.ReLU(),
                layers.GlobalAveragePooling2D(),
                Counted(),
                layers.GaussianNoise(0.1),
                layers.Dropout(0.3),
                layers.Dense(self.classes, name="output"),
            ]
        )


class NotBuilt(ImageClassifier):
    def network(self) -> Any:
        return keras.Sequential([layers.Flatten(), layers.Dense(self.classes)])


class Scaled(layers.Layer):
    """Has two weights that are both named `weight` in torch."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], 4))
        self.gamma = self.add_weight(name="gamma", shape=(4,))

    def call(self, x: Any) -> Any:
        return x @ self.kernel * self.gamma


class TwiceNamed(ImageClassifier):
    def network(self) -> Any:
        return keras.Sequential([keras.Input(self.image), layers.Flatten(), Scaled(name="same")])


build = SmallClassifier
