"""The kit passes a good program, and names what is wrong with a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import kit
from tests.support.kit import changed
from tests.support.plugins import DECLARATION, TRAINING, write_package

pytestmark = pytest.mark.timeout(600)


def test_a_good_program_passes(tmp_path: Path) -> None:
    found = kit.check(write_package(tmp_path), "--program=walk")
    assert found.failed == {}, found.output
    assert len(found.passed) > 9


#: A line of each step, after which something may be done.
STEP = "        run.progress(step, run.params.steps)\n"
ASKED = "        if run.should_stop():\n            break\n"
LATEST = 'place, start = saved.arrays()["place"], saved.step'
NOISE = "np.random.Generator(np.random.Philox(key=run.seed, counter=step))"


def in_each_step(line: str) -> tuple[str, str]:
    return STEP, f"{STEP}        {line}\n"


#: A copy of the program that goes on once its parent has ended, which it would disturb at any point otherwise.
COPY = """is_copy = step == 5 and os.fork() == 0
        while is_copy and os.getppid() == os.getpgrp(): time.sleep(0.01)"""

#: What is wrong: changes of the training, the check that says it, and its sentence.
WRONG = {
    "threads": (
        [in_each_step("threading.Thread(target=time.sleep, args=(60,), daemon=True).start()")],
        "leaves_no_thread",
        "20 threads still run after the training",
    ),
    "forks": (
        [in_each_step("if step == 5 and os.fork() == 0: time.sleep(60), os._exit(0)")],
        "leaves_no_process",
        "1 child processes are left after the training",
    ),
    "forks a copy that goes on": (
        [in_each_step(COPY)],
        "leaves_no_process",
        "1 child processes are left after the training",
    ),
    "noise": (
        [in_each_step("print('x' * 1_000_000)")],
        "prints_little",
        "it prints 20,000,020 bytes in 20 steps",
    ),
    "never asks": (
        [("if run.should_stop() or run.checkpoint_due", "if run.checkpoint_due"), (ASKED, "")],
        "stops_within_a_step",
        "it never calls run.should_stop()",
    ),
    "ignores the answer": (
        [(ASKED, "")],
        "stops_within_a_step",
        "it goes on after run.should_stop() said True",
    ),
    "randomness without a seed": (
        [(NOISE, "np.random.default_rng()")],
        "repeats_itself",
        "differs between two runs of one seed",
    ),
    "a checkpoint that lacks something": (
        [(LATEST, "start = saved.step")],
        "goes_on_after_kills",
        "all that decides a step must be in its checkpoints",
    ),
    "begins anew": (
        [(LATEST, "pass"), ("assert (saved.folder", "# (saved.folder")],
        "goes_on_after_kills",
        "begin at run.latest()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_bad_program_is_named(what: str, tmp_path: Path) -> None:
    changes, check, reason = WRONG[what]
    training = "import threading, time\n" + changed(TRAINING, *changes)
    found = kit.check(write_package(tmp_path, training=training), "--program=walk", only=check)
    (said,) = found.failed.values()
    assert reason in said, found.output


def test_an_import_that_starts_a_process_is_named(tmp_path: Path) -> None:
    training = f"{TRAINING}\nimport subprocess\nsubprocess.Popen(['sleep', '60'])\n"
    found = kit.check(write_package(tmp_path, training=training), "--program=walk", only="import_starts")
    (said,) = found.failed.values()
    assert "walk_training: its import starts a process" in said, found.output


@pytest.mark.parametrize(("kind", "read"), [("files", "rows.csv"), ("table", "table.parquet")])
def test_a_program_gets_the_files_of_its_trial(kind: str, read: str, tmp_path: Path) -> None:
    more = f', dataset_kinds=("{kind}",), trial=Trial(files={{"rows.csv": "a,b\\n1,2\\n"}})'
    declaration = DECLARATION.replace("{more}", more).replace("import Program", "import Program, Trial")
    training = changed(
        TRAINING, ("def train(run):\n", f"def train(run):\n    assert (run.dataset / '{read}').exists()\n")
    )
    found = kit.check(
        write_package(tmp_path, declaration=declaration, training=training), "--program=walk", only="reports"
    )
    assert found.failed == {}, found.output
    assert found.passed == {"program_reports_its_steps"}


def test_a_program_whose_data_the_kit_does_not_have_is_named(tmp_path: Path) -> None:
    found = kit.check(write_package(tmp_path, more=', dataset_kinds=("files",)'), "--program=walk", only="reports")
    (said,) = found.failed.values()
    assert "the kit has no small data set of the kind files: name its files, Trial(files=…)" in said


def test_a_declaration_that_imports_a_framework_is_named(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    declaration = "import torch\n" + DECLARATION.replace("{more}", "")
    found = kit.check(write_package(tmp_path, declaration=declaration), "--program=walk", only="declaration")
    (said,) = found.failed.values()
    assert "the module of the Program imports torch" in said


def test_a_program_that_does_not_exist_is_an_error_of_usage(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no installed package has a program of this name"):
        kit.check(write_package(tmp_path), "--program=stroll")
