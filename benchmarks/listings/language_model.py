"""The language model as listed: two GRU layers of 512, the next token at every position, and the loss of the test part.

python -m benchmarks.listings.language_model DATA.npz OUT.npz SEED
"""

import sys

import keras
import numpy as np
from keras import layers

data_path, out_path, seed = sys.argv[1:]
keras.utils.set_random_seed(int(seed))
data = np.load(data_path)
train, test, vocabulary = data["train"], data["test"], int(data["vocabulary"])
model = keras.Sequential([
    layers.Embedding(vocabulary, 256),
    layers.GRU(512, return_sequences=True),
    layers.Dropout(0.1),
    layers.GRU(512, return_sequences=True),
    layers.Dropout(0.1),
    layers.Dense(vocabulary, activation="softmax"),
])  # fmt: skip
model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy")
model.fit(train[:, :-1], train[:, 1:], batch_size=64, epochs=10, validation_split=0.2, verbose=2)
loss = model.evaluate(test[:, :-1], test[:, 1:], batch_size=64, verbose=0)
np.savez(out_path, perplexity=np.exp(loss))
