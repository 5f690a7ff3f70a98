"""The memory of the GPU that TensorFlow computes on; the twin of `torch_memory`."""

from __future__ import annotations

import os
from contextlib import suppress

import tensorflow as tf

from shared.fleet import nvml
from shared.fleet.gpus import VISIBLE

#: TensorFlow's name of the only GPU of this process.
_GPU = "GPU:0"


class TensorflowMemory:
    """Memory of the first GPU."""

    def begin(self) -> None:
        tf.config.experimental.reset_memory_stats(_GPU)
        self._before = self._told("current")

    def taken(self) -> int:
        return self._told("peak") - self._before

    def free(self) -> int:
        """Return what the driver has free; 0 if it does not answer.

        TensorFlow tells neither a limit nor what it keeps and does not use: the batch is smaller by that.
        """
        with suppress(Exception):
            library = nvml.opened()
            handle = library.nvmlDeviceGetHandleByUUID(os.environ[VISIBLE])
            return int(library.nvmlDeviceGetMemoryInfo(handle).free)
        return 0

    def give_back(self) -> None:
        """Do nothing: TensorFlow's allocator joins what is free by itself, and gives nothing back."""

    def _told(self, name: str) -> int:
        return int(tf.config.experimental.get_memory_info(_GPU)[name])
