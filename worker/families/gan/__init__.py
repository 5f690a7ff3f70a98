"""Generative adversarial networks: pictures out of noise."""
