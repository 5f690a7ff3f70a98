"""The dense GAN as listed: two networks, two Adams at 1e-4, one `tf.function` a step, and samples at the end.

python -m benchmarks.listings.adversarial DATA.npz OUT.npz SEED BATCH_SIZE EPOCHS SAMPLES
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

data_path, out_path, *numbers = sys.argv[1:]
seed, batch_size, epochs, samples = map(int, numbers)
keras.utils.set_random_seed(seed)
images = np.load(data_path)["x_train"].astype("float32") / 255
NOISE = 100

generator = keras.Sequential([
    keras.Input((NOISE,)),
    layers.Dense(128, activation="relu"),
    layers.Dense(784, activation="sigmoid"),
    layers.Reshape((28, 28, 1)),
])  # fmt: skip
discriminator = keras.Sequential([
    keras.Input((28, 28, 1)),
    layers.Flatten(),
    layers.Dense(128, activation="relu"),
    layers.Dense(1, activation="sigmoid"),
])  # fmt: skip
cross_entropy = keras.losses.BinaryCrossentropy()
generator_optimizer = keras.optimizers.Adam(1e-4)
discriminator_optimizer = keras.optimizers.Adam(1e-4)


@tf.function
def train_step(real):
    noise = tf.random.normal([tf.shape(real)[0], NOISE])
    with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
        made = generator(noise, training=True)
        real_output, made_output = discriminator(real, training=True), discriminator(made, training=True)
        generator_loss = cross_entropy(tf.ones_like(made_output), made_output)
        discriminator_loss = cross_entropy(tf.ones_like(real_output), real_output) + cross_entropy(
            tf.zeros_like(made_output), made_output
        )
    of_generator = generator_tape.gradient(generator_loss, generator.trainable_variables)
    of_discriminator = discriminator_tape.gradient(discriminator_loss, discriminator.trainable_variables)
    generator_optimizer.apply_gradients(zip(of_generator, generator.trainable_variables))  # noqa: B905
    discriminator_optimizer.apply_gradients(zip(of_discriminator, discriminator.trainable_variables))  # noqa: B905


dataset = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images)).batch(batch_size)
for _ in range(epochs):
    for batch in dataset:
        train_step(batch)
made = generator.predict(tf.random.normal([samples, NOISE]), batch_size=250, verbose=0)
np.savez(out_path, samples=np.rint(made * 255).astype("uint8"))
