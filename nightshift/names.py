"""Names of kinds, families, frameworks and states of data sets.

It imports nothing heavy, because commands read it at their start.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Kind = Literal["train", "finetune", "batch_infer", "evaluate", "run"]
Framework = Literal["torch", "tensorflow"]
#: Whether a job can use a data set: it is registered; or the first job registers it from local files
#: (`on_first_use`) or by a download (`needs_download`); or neither is possible.
Availability = Literal["registered", "on_first_use", "needs_download", "unavailable"]

TRAIN: Final = "train"
FINETUNE: Final = "finetune"
BATCH_INFER: Final = "batch_infer"
EVALUATE: Final = "evaluate"
#: An own program, which no family has a part in.
RUN: Final = "run"

KINDS: tuple[Kind, ...] = get_args(Kind)
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)


def either(names: tuple[str, ...]) -> str:
    """Return the names as a choice for help texts: `cnn, gru_lm or gan`."""
    return f"{', '.join(names[:-1])} or {names[-1]}"
