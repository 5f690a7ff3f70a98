"""What a target holds, classes or numbers, and what follows from the type of a column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

TableTask = Literal["classes", "numbers"]
Loss = Literal["cross_entropy", "mean_squared_error", "mean_absolute_error"]

#: The losses of each task, its default first.
LOSSES: Mapping[TableTask, tuple[Loss, ...]] = {
    "classes": ("cross_entropy",),
    "numbers": ("mean_squared_error", "mean_absolute_error"),
}
#: Most different whole numbers that are taken for classes (0 and 1, stars from 1 to 5), not for a quantity.
FEW_VALUES = 10

#: What a column holds as far as a model is concerned; `other`: nothing that it reads (lists, times of a day).
Content = Literal["text", "truth", "whole", "number", "day", "other"]
_CONTENTS: tuple[tuple[str, Content], ...] = (
    ("string", "text"), ("large_string", "text"), ("bool", "truth"), ("int", "whole"), ("uint", "whole"),
    ("float", "number"), ("halffloat", "number"), ("double", "number"), ("decimal", "number"), ("date", "day"),
    ("timestamp", "day"),
)  # fmt: skip


def content_of(type: str) -> Content:
    """Return what a column of this type of Arrow (as text: `int64`, `date32[day]`) holds."""
    return next((content for begin, content in _CONTENTS if type.startswith(begin)), "other")


def task_of_loss(loss: Loss) -> TableTask:
    """Return the task of a loss."""
    return next(task for task, losses in LOSSES.items() if loss in losses)


def task_of(content: Content, distinct: int) -> TableTask:
    """Return the task of a target with this content and number of different values, where no setting names it."""
    few = content == "whole" and distinct <= FEW_VALUES
    return "classes" if few or content in ("text", "truth") else "numbers"
