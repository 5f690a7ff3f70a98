"""Weights of image models with channels last, as TensorFlow has them, from and to the canonical layout.

Convolutions [a, b, kh, kw] <-> [kh, kw, b, a]; dense layers [out, in] <-> [in, out]. Where a dense layer reads or
produces maps, their canonical order is C, H, W, and the other one H, W, C; `read` and `made` are (channels, height,
width) of these maps.
"""

from __future__ import annotations

import math

import numpy as np

from nightshift.families.learner import Array

Maps = tuple[int, int, int]


def to_channels_last(array: Array, read: Maps | None = None, made: Maps | None = None) -> Array:
    """Return a canonical array with channels last. Maps of another size are left in their order."""
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if made and array.shape[0] == math.prod(made):
        array = np.moveaxis(array.reshape(*made, *array.shape[1:]), 0, 2).reshape(-1, *array.shape[1:])
    if read and array.ndim == 2 and array.shape[1] == math.prod(read):
        array = np.moveaxis(array.reshape(len(array), *read), 1, 3).reshape(len(array), -1)
    return np.ascontiguousarray(array.T)


def to_canonical(array: Array, read: Maps | None = None, made: Maps | None = None) -> Array:
    """Return an array with channels last in the canonical layout."""
    array = array.T if array.ndim < 4 else array.transpose(3, 2, 0, 1)
    if made:
        channels, *size = made
        array = np.moveaxis(array.reshape(*size, channels, *array.shape[1:]), 2, 0).reshape(-1, *array.shape[1:])
    if read and array.ndim == 2:
        channels, *size = read
        array = np.moveaxis(array.reshape(len(array), *size, channels), 3, 1).reshape(len(array), -1)
    return np.ascontiguousarray(array)
