"""The stages of batch inference pass the interpreter on sooner, and leave it as it was."""

from __future__ import annotations

import sys
from typing import Any

from worker.kinds.inference_stages import Stages


def test_threads_pass_the_interpreter_on_sooner_while_the_stages_run() -> None:
    source: Any = object()  # without stages
    before = sys.getswitchinterval()
    with Stages(source, []):
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
