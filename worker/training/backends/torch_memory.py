"""The memory of the GPU that torch computes on; the twin of `tensorflow_memory`."""

from __future__ import annotations

import torch


class TorchMemory:
    """Memory of the current GPU."""

    def begin(self) -> None:
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()

    def taken(self) -> int:
        return torch.cuda.max_memory_allocated() - self._before

    def free(self) -> int:
        """Return what the GPU has free, and what torch keeps of it and does not use."""
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()

    def give_back(self) -> None:
        torch.cuda.empty_cache()
