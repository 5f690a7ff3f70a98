"""Generative adversarial networks: images generated from noise."""
