"""A plain Keras script as a program of Nightshift."""
