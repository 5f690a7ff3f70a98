"""The checks of a program."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import ValidationError

from nightshift.programs import GROUP
from nightshift.testing.attempts import checkpoints, step_of
from nightshift.testing.conduct import Behavior
from nightshift.testing.fresh import frameworks_of_declaration, harm_of
from nightshift.testing.program_cases import IGNORED_STOP, ProgramCase, ProgramLeft, Seen
from nightshift.testing.reasons import fail

#: Times that a run is killed, and the fewest steps that it then needs.
KILLS, FEWEST_STEPS = 3, 8
#: Steps that a program may still report after it was asked to stop: the one that it is in.
LATE_STEPS = 2


@dataclass(frozen=True)
class Untouched:
    """A run of a program that nothing disturbed."""

    folder: Path
    data_set: Path | None
    steps: list[int]

    @property
    def every(self) -> int:
        """Steps between two checkpoints, so that there are several."""
        return max(1, len(self.steps) // 8)


@pytest.fixture(scope="session")
def untouched(program: ProgramCase, tmp_path_factory: pytest.TempPathFactory) -> Untouched:
    """Return the untouched run of the program."""
    root = tmp_path_factory.mktemp("program")
    data_set = program.data_set(root / "data")
    folder = root / "untouched"
    code = program.attempt(program.spec(), folder, data_set)
    if code is None:
        fail("a run of its trial does not end within ten minutes: choose smaller `params` in its Trial")
    if code != 0:
        output = folder / "output.txt"
        printed = output.read_text(errors="replace")[-3000:] if output.exists() else ""
        fail(f"a run of its trial fails (exit code {code}): see what it printed\n{printed}")
    return Untouched(folder, data_set, Seen.of(folder).steps)


def test_program_declaration_imports_no_framework(program: ProgramCase) -> None:
    """The module of the `Program` imports no framework: the API imports it for the parameters."""
    found = frameworks_of_declaration(GROUP, program.program.name)
    if found:
        fail(f"the module of the Program imports {', '.join(found)}: name `train` as text, and import it there")


def test_program_params_go_round(program: ProgramCase) -> None:
    """The parameters of the trial survive JSON, and an unknown one is refused."""
    params = program.program.params
    params.model_json_schema()
    given = dict(program.trial.params)
    try:
        first = params.model_validate_json(json.dumps(given))
    except ValidationError as error:
        fail(f"the `params` of its Trial are refused: {error}")
    if params.model_validate_json(first.model_dump_json()) != first:
        fail("its parameters are others after they were written to JSON and read")
    try:
        params.model_validate_json(json.dumps({**given, "no_such_parameter": 1}))
    except ValidationError:
        return
    fail('an unknown parameter is accepted, so a typing error is not noticed: set extra="forbid"')


def test_program_import_starts_nothing(program: ProgramCase, tmp_path: Path) -> None:
    """Importing the module of `train` starts no thread and no process and opens no device."""
    module = program.program.train.partition(":")[0]
    for name, why in harm_of(program.server, [module], tmp_path).items():
        fail(f"{name}: {why}; do that in train(), because a device that is opened before a fork is lost")


def test_program_reports_its_steps(untouched: Untouched) -> None:
    """It calls `run.log` or `run.progress` at its steps."""
    if len(untouched.steps) < FEWEST_STEPS:
        fail(
            f"it reports {len(untouched.steps)} steps; a run that is silent counts as stalled, and the kit needs "
            f"{FEWEST_STEPS} to kill it between them: call run.progress(step, total) at each step"
        )


def test_program_goes_on_after_kills(program: ProgramCase, untouched: Untouched, seed: int, tmp_path: Path) -> None:
    """Killed three times at random steps, a run does what its `promise` says."""
    promise = program.program.promise
    spec = program.spec(untouched.every)
    steps = untouched.steps[1:-1]
    at = sorted(random.Random(seed).sample(steps, min(KILLS, len(steps))))
    print(f"killed at the steps {at} of {untouched.steps[-1]}")
    for step in at:
        saved = max((step_of(path) for path in checkpoints(tmp_path)), default=0)
        code = program.attempt(spec, tmp_path, untouched.data_set, kill_at=step)
        if code != -9:
            fail(f"a run that begins at the checkpoint of step {saved} fails (exit code {code}): {_printed(tmp_path)}")
    saved = max((step_of(path) for path in checkpoints(tmp_path)), default=0)
    if promise != "restart" and saved == 0:
        fail(f"it promises {promise} and saved no checkpoint by step {at[-1]}: call run.save when run.checkpoint_due")
    code = program.attempt(spec, tmp_path, untouched.data_set)
    if code != 0:
        fail(f"a run that begins at the checkpoint of step {saved} fails (exit code {code}): {_printed(tmp_path)}")
    if promise == "restart":
        return
    first = Seen.of(tmp_path).steps[:1]
    if first and first[0] <= saved:
        fail(f"its first step is {first[0]}, although there is a checkpoint of step {saved}: begin at run.latest()")
    if promise == "exact" and (different := ProgramLeft.of(tmp_path).difference(ProgramLeft.of(untouched.folder))):
        fail(
            f"{different} of a run that was killed at the steps {at} is not that of an untouched run: it promises "
            "`exact`, so all that decides a step must be in its checkpoints, or follow from run.seed and the step"
        )


def test_program_repeats_itself(program: ProgramCase, untouched: Untouched, tmp_path: Path) -> None:
    """Two untouched runs of one seed leave the same files and rows, if it promises `exact`."""
    if program.program.promise != "exact":
        pytest.skip("it does not promise exact")
    if program.attempt(program.spec(), tmp_path, untouched.data_set) != 0:
        fail(f"a second run fails: {_printed(tmp_path)}")
    if different := ProgramLeft.of(tmp_path).difference(ProgramLeft.of(untouched.folder)):
        fail(f"{different} differs between two runs of one seed: draw random numbers from run.seed only")


def test_program_stops_within_a_step(program: ProgramCase, untouched: Untouched, tmp_path: Path) -> None:
    """Asked to pause, it saves and returns before its next step."""
    steps = untouched.steps
    if len(steps) < FEWEST_STEPS:
        pytest.skip("it reports too few steps")
    at = steps[len(steps) // 2]
    late = [step for step in steps if step > at][:LATE_STEPS]
    code = program.attempt(
        program.spec(untouched.every), tmp_path, untouched.data_set, stop_at=at, give_up_at=late[-1] if late else None
    )
    seen = Seen.of(tmp_path) if code in (0, IGNORED_STOP) else None
    if seen is None:
        fail(f"asked to pause, it fails (exit code {code}): {_printed(tmp_path)}")
    if code == IGNORED_STOP or seen.type != "stopped":
        how = "never calls run.should_stop()" if seen.asked == 0 else "goes on after run.should_stop() said True"
        fail(f"it ignores a request to stop: it {how}; ask at each step, save and return")
    saved = max((step_of(path) for path in checkpoints(tmp_path)), default=0)
    if program.program.promise != "restart" and saved < at:
        fail(f"asked to pause at step {at}, it left a checkpoint of step {saved}: call run.save before it returns")


def test_program_leaves_no_thread(untouched: Untouched) -> None:
    """No thread that it starts is left at its end, and their number does not grow."""
    if leak := Behavior.of(untouched.folder).thread_leak():
        fail(leak)


def test_program_leaves_no_process(untouched: Untouched) -> None:
    """No child process is left at its end."""
    if leak := Behavior.of(untouched.folder).process_leak():
        fail(leak)


def test_program_prints_little(untouched: Untouched) -> None:
    """It prints a few lines, not megabytes."""
    if noise := Behavior.of(untouched.folder).noise():
        fail(noise)


def _printed(folder: Path) -> str:
    """Return the last lines of what an attempt printed."""
    path = folder / "output.txt"
    return path.read_text(errors="replace")[-800:].strip() if path.exists() else "it printed nothing"
