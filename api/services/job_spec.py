"""Is a body a spec: pure checks, in microseconds, before anything is asked of the database."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from api.services.spec_errors import invalid_spec
from nightshift.errors import FieldError, InvalidRequest
from shared.specs import supported
from shared.specs.jobs import BatchInferJob, EvaluateJob, FinetuneJob, TrainJob

Spec = TrainJob | FinetuneJob | BatchInferJob | EvaluateJob

SPECS: dict[str, type[Spec]] = {
    "train": TrainJob,
    "finetune": FinetuneJob,
    "batch_infer": BatchInferJob,
    "evaluate": EvaluateJob,
}

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
#: What `run_at` may be (years): the epoch, and the last year that survives a change of zone.
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
#: Longest Idempotency-Key (characters), as wide as its column.
MAX_KEY = 255


def parse_spec(data: Any) -> Spec:
    """A complete spec (presets filled in); raises InvalidRequest that names every wrong field."""
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.", [FieldError((), "must be a JSON object")])
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in supported.kinds():
        msg = "is required" if "kind" not in data else "no worker of this version runs this kind"
        raise InvalidRequest.field(("kind",), f"{msg}; there are {', '.join(supported.kinds())}")
    try:
        spec = SPECS[kind].model_validate(data)
    except ValidationError as error:
        raise invalid_spec(error, SPECS[kind], data) from None
    _require_a_learner(spec)
    return spec


def _require_a_learner(spec: Spec) -> None:
    """For a model that is built here; the family of a `model_ref` is only known from SQL."""
    if isinstance(spec, TrainJob):
        places = {"family": ("model", "family"), "framework": ("model", "framework")}
        refuse(supported.objection(spec.kind, spec.model.family, spec.model.framework, places))


def refuse(objection: FieldError | None) -> None:
    if objection:
        raise InvalidRequest.field(objection.loc, objection.msg)


def parse_run_at(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, which names its offset; the past means at once."""
    if text is None:
        return None
    if not _RFC_3339.fullmatch(text):
        raise InvalidRequest.field(("run_at",), "use RFC 3339 with an offset, like 2027-01-31T02:00:00+01:00")
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        raise InvalidRequest.field(("run_at",), "there is no such date or time of day") from None
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise InvalidRequest.field(("run_at",), f"the year must be between {_FIRST_YEAR} and {_LAST_YEAR}")
    return max(time.astimezone(UTC).timestamp(), 0.0)


def check_idempotency_key(key: str | None) -> None:
    if key is not None and not (1 <= len(key) <= MAX_KEY and all("!" <= char <= "~" for char in key)):
        raise InvalidRequest.field(
            ("Idempotency-Key",), f"use 1 to {MAX_KEY} printable ASCII characters without spaces"
        )


def hash_of(data: Any) -> str:
    """The same for bodies that differ in white space and order of keys only."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
