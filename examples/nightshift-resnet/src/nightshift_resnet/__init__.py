"""Residual networks for small colour images, as a model family of Nightshift."""
