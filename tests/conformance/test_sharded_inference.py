"""Every family leaves the same files in shards as in one piece."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nightshift.testing.attempts import outcome, run
from nightshift.testing.datasets import store_documents
from nightshift.testing.test_inference import spec_of
from tests.support.kinds import Trained
from tests.support.sharded import Division, divided, files
from tests.support.training import CASES, SERVER, attempt

pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("torch")] + ["cnn-tensorflow"])
def test_shards_leave_the_files_of_a_job_in_one_piece(
    name: str, parents: Callable[[str], Trained], tmp_path: Path
) -> None:
    if name.endswith("tensorflow"):
        pytest.importorskip("tensorflow")
    parent = parents(name)
    documents = [b"the %d cats saw %d dogs\n" % (n % 7, n % 3) * (1 + n % 4) for n in range(120)] + [b"", b"\xff"]
    for number, task in enumerate(parent.case.inference):
        rows = store_documents(tmp_path, documents) if task["task"] == "score" else parent.data_set
        for output in ("parquet", "jsonl"):
            spec = spec_of(parent.case, output, {**task, "engine": "framework", "batch_size": 10})
            one, root = tmp_path / f"{number}{output}", tmp_path / f"{number}{output}s"
            assert attempt(spec, one, rows, model=parent.model) == 0
            assert run(SERVER, divided, Division(spec, root, rows, parent.model, shards=3)) == 0
            plain, merged = files([one, root / "whole"])
            assert merged == plain, (task, output)
            assert outcome(root / "whole")["metrics"] == outcome(one)["metrics"]
