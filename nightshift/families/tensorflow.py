"""Ready-made learners in TensorFlow: a family writes its Keras model, everything else is given.

    class Small(ImageClassifier):
        def network(self):
            return keras.Sequential([keras.Input(self.image), ..., layers.Dense(self.classes, name="output")])

    build = Small

Only modules named as a learner of a family may import this one: it imports TensorFlow. The twin of `torch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nightshift.families.learner import Array, LearnerSetup, LearnerState
from worker.families.cnn.tensorflow_pixels import augmentations, augmented, pixels
from worker.training.backends import tensorflow_models as models
from worker.training.backends import tensorflow_support as support
from worker.training.backends.tensorflow_base import TensorflowLearner
from worker.training.numerics.named_arrays import strip_prefix

Tensor = Any
#: The arrays of a data set for one step, by their names in `Splits`.
Batch = Mapping[str, Tensor]


class ModelLearner(TensorflowLearner):
    """A learner of one Keras model, for data of any kind.

    A subclass writes `network`, `loss`, and `inputs` unless the model reads the array `x`; for metrics beside the loss
    `MEASURED` and `measures`; for outputs other than the model's `predicted`. `self.model` is the family's spec,
    `self.training` the `Training`, `self.facts` what `load_splits` found out about the data.

    Layers draw random numbers that depend on the job's seed and the step only, so a resumed run draws the same ones.
    Weights are named `layer.weight`, `layer.bias`, `layer.running_mean` and so on, kernels in torch's layout: a learner
    in torch whose modules have the same names can go on with them. Losses of layers (`add_loss`, regularizers) are
    added. `bfloat16` is used if `training.precision` says so, also for predictions; `auto` is float32.
    """

    #: Names of the metrics: the loss, then those of `measures`.
    MEASURED: ClassVar[tuple[str, ...]] = ("loss",)

    def network(self) -> Any:
        """Return the built model. It is called once, with random numbers that depend on the job's seed only."""
        raise NotImplementedError

    def draws(self, rows: int, step: int) -> Mapping[str, Array]:
        """Return random numbers of a step, drawn outside the graph: for augmentation."""
        return {}

    def inputs(self, batch: Batch, draws: Batch | None) -> Any:
        """Return the argument of the model. `draws`: None outside training."""
        return batch["x"]

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss of the rows, float32."""
        raise NotImplementedError

    def measures(self, outputs: Any, batch: Batch) -> Sequence[Tensor]:
        """Return the means over the rows of the metrics in `MEASURED` after the loss."""
        return ()

    def predicted(self, outputs: Any) -> Tensor:
        """Return the float32 rows that `predict` returns."""
        return outputs

    # -- what is given ----------------------------------------------------------------------------

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.facts = setup.facts
        self.module = models.built(self.network, self.training.seed, self.training.precision, self._placement())
        names = models.names_of(self.module)
        models.freeze(self.module, names, self._is_frozen)
        self.variables = {name: one for name, one in names.items() if "float" in str(one.dtype)}
        self._learned = {name for name, one in self.variables.items() if one.trainable and not self._is_frozen(name)}
        self.others = models.OtherVariables({name: names[name] for name in names.keys() - self.variables.keys()})
        self.random = models.RandomStates(self.module)
        self._optimize({name: one.value for name, one in self.variables.items()})
        self._kept = [one.value for name, one in names.items() if name not in self._learned]
        self._graphs: dict[str, Any] = {}
        self.data: Mapping[str, Array] = {}

    def set_data(self, split: Mapping[str, Array]) -> None:
        self.data = split

    def _arguments(self, rows: npt.NDArray[np.int64], step: int) -> tuple[Any, ...]:
        batch = {name: np.asarray(array[rows]) for name, array in self.data.items()}
        keys = self.random.keys(self.training.seed, "step", step)
        return batch, dict(self.draws(len(rows), step)), keys, np.float32(self.rate)

    @cached_property
    def _train(self) -> Any:
        return partial(self._run, "train", self._whole_step)

    def _step(self, batch: Batch, draws: Batch, keys: Tensor, rate: Tensor) -> Tensor:
        before = [tf.identity(variable) for variable in self._kept]
        self.random.set(keys)
        learned = list(self._trained().values())
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(learned)
            outputs = self.module(self.inputs(batch, draws), training=True)
            loss = tf.add_n([self.loss(outputs, batch), *(tf.cast(one, tf.float32) for one in self.module.losses)])
        gradients = tape.gradient(loss, learned, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self._learn("", loss, gradients, rate)
        for variable, old in zip(self._kept, before, strict=True):
            variable.assign(tf.where(self.guard.bad, old, variable))
        rows = _rows(batch)
        self._add(tf.stack([*self._sums(loss, outputs, batch, rows), rows]))
        return rows

    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        total = len(next(iter(split.values())))
        with tf.device(self.device):
            sums = tf.zeros(len(self.MEASURED), tf.float64)
            for at in range(0, total, batch_size):
                batch = {name: np.asarray(array[at : at + batch_size]) for name, array in split.items()}
                sums += self._run("evaluate", self._evaluate_batch, batch, self._evaluation_keys())
        return self._named(*(sums.numpy() / total).tolist())

    def _evaluate_batch(self, batch: Batch, keys: Tensor) -> Tensor:
        self.random.set(keys)
        outputs = self.module(self.inputs(batch, None), training=False)
        return tf.stack(self._sums(self.loss(outputs, batch), outputs, batch, _rows(batch)))

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return what `predicted` makes of each row."""
        if len(inputs) == 0:  # not every operation accepts no rows
            return self.predict(np.zeros((1, *inputs.shape[1:]), inputs.dtype), 1)[:0]
        return np.concatenate(self._in_batches(self._predict, inputs, batch_size))

    def _predict(self, inputs: Array) -> Tensor:
        return self._run("predict", self._predict_batch, {"x": np.asarray(inputs)}, self._evaluation_keys())

    def _predict_batch(self, batch: Batch, keys: Tensor) -> Tensor:
        self.random.set(keys)
        return tf.cast(self.predicted(self.module(self.inputs(batch, None), training=False)), tf.float32)

    def _evaluation_keys(self) -> Array:
        return self.random.keys(self.training.seed, "evaluate", 0)

    def _sums(self, loss: Tensor, outputs: Any, batch: Batch, rows: Tensor) -> list[Tensor]:
        return [tf.cast(mean, tf.float64) * rows for mean in (loss, *self.measures(outputs, batch))]

    def _run(self, name: str, function: Callable[..., Tensor], *arguments: Any) -> Any:
        """Run a function as a graph, which is traced once for batches of any length."""
        with tf.device(self.device):
            if name not in self._graphs:
                self._graphs[name] = support.compiled(function, tf.nest.map_structure(_spec, arguments))
            return self._graphs[name](*tf.nest.map_structure(tf.constant, arguments))

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> LearnerState:
        found = super().state()
        others = {f"buffers/{name}": array for name, array in self.others.changed().items()}
        return LearnerState({**found.arrays, **others}, found.facts)

    def load_state(self, state: LearnerState) -> None:
        super().load_state(state)
        self.others.load(strip_prefix(state.arrays, "buffers/"))

    def _trained(self, part: str = "") -> dict[str, Any]:
        return {name: tensor for name, tensor in self.tensors.items() if name in self._learned}

    def _own(self, name: str, array: Array) -> Array:
        return models.own(self.variables[name], array)

    def _canonical(self, name: str, array: Array) -> Array:
        return np.ascontiguousarray(models.canonical(self.variables[name], array))


def _spec(value: Any) -> Any:
    """Return the spec of an argument; its rows may be more or fewer."""
    array = np.asarray(value)
    return tf.TensorSpec([None, *array.shape[1:]] if array.ndim else [], array.dtype)


def _rows(batch: Batch) -> Tensor:
    return tf.cast(tf.shape(next(iter(batch.values())))[0], tf.float64)


class ImageClassifier(ModelLearner):
    """A classifier of images, for a family whose parts are `nightshift.families.IMAGE_CLASSIFIER`.

    A subclass writes `network`: inputs float32 [n, height, width, channels] from 0 to 1, outputs logits
    [n, self.classes]. Augmentations are those of `cnn`: shift, rotate, flip, erase.
    """

    MEASURED = ("loss", "accuracy")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.facts["classes"])

    @property
    def image(self) -> tuple[int, int, int]:
        """Shape of an image: height, width, channels."""
        return (*self.model.image_size, self.model.image_channels)

    def draws(self, rows: int, step: int) -> Mapping[str, Array]:
        return augmentations(self.training.augment, self.training.seed, step, rows, self.model.image_size)

    def inputs(self, batch: Batch, draws: Batch | None) -> Tensor:
        x = pixels(batch["x"])
        return x if draws is None else augmented(x, draws)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        logits = tf.cast(outputs, tf.float32)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["y"], logits=logits))

    def measures(self, outputs: Tensor, batch: Batch) -> Sequence[Tensor]:
        right = tf.argmax(outputs, 1) == tf.cast(batch["y"], tf.int64)
        return [tf.reduce_mean(tf.cast(right, tf.float64))]

    def predicted(self, outputs: Tensor) -> Tensor:
        """Return probabilities [n, classes]."""
        return tf.nn.softmax(tf.cast(outputs, tf.float32))
