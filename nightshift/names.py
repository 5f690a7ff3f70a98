"""Names of kinds, families, frameworks, kinds and formats of data, and states of data sets.

It imports nothing heavy, because commands read it at their start.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Kind = Literal["train", "finetune", "batch_infer", "evaluate", "run"]
Framework = Literal["torch", "tensorflow"]
#: The kind of a data set: pictures with a class, documents, any files, or rows with named columns.
DataKind = Literal["image", "text", "files", "table"]
#: The format of the files that images or text are registered from.
Format = Literal["idx", "npz", "cifar10", "images", "csv", "text", "jsonl", "text_folders", "conll"]
#: Whether a job can use a data set: it is registered; or the first job registers it from local files
#: (`on_first_use`) or by a download (`needs_download`); or neither is possible.
Availability = Literal["registered", "on_first_use", "needs_download", "unavailable"]

TRAIN: Final = "train"
FINETUNE: Final = "finetune"
BATCH_INFER: Final = "batch_infer"
EVALUATE: Final = "evaluate"
#: An own program, which no family has a part in.
RUN: Final = "run"
#: A shard of a batch inference. The service makes these jobs; none can be submitted.
SHARD: Final = "shard"

IMAGE: Final = "image"
TEXT: Final = "text"
FILES: Final = "files"
TABLE: Final = "table"

KINDS: tuple[Kind, ...] = get_args(Kind)
DATA_KINDS: tuple[DataKind, ...] = get_args(DataKind)
FORMATS: tuple[Format, ...] = get_args(Format)
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)


_DATA: dict[str, str] = {FILES: "plain files", TABLE: "a table"}


def data_of(*kinds: str) -> str:
    """Return what data sets of these kinds hold, for messages: `image or text data or a table`."""
    examples = " or ".join(kind for kind in kinds if kind not in _DATA)
    return " or ".join([f"{examples} data"] * bool(examples) + [_DATA[kind] for kind in kinds if kind in _DATA])


def either(names: tuple[str, ...]) -> str:
    """Return the names as a choice for help texts: `cnn, gru_lm or gan`."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


#: What a label of a device looks like: a word, or a name with a value.
DEVICE_LABEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,29}(?:=[A-Za-z0-9._-]{1,30})?"
