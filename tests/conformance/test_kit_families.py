"""The kit passes a good family, and names what is wrong with a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import kit
from tests.support.kit import DECLARATION, TENSORFLOW, TORCH, changed, write_family

pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("framework", "learner"), [("torch", TORCH), ("tensorflow", TENSORFLOW)])
def test_a_good_family_passes(framework: str, learner: str, tmp_path: Path) -> None:
    pytest.importorskip(framework)
    found = kit.check(write_family(tmp_path, learner, framework), "--family=pebble")
    assert found.failed == {}, found.output
    assert len(found.passed) > 18


#: What is wrong: changes of the learner, the check that says it, and its sentence.
WRONG = {
    "state outside of state()": (
        [("self.data = split", "self.data, self.n = split, 0"), ("counter=step))", "counter=self.count()))")],
        "a_run_goes_on_bit_for_bit",
        "is kept outside of state()",
    ),
    "a state that is no snapshot": (
        [
            ("self.v[name] = np.float32(0.9) * self.v[name] + gradient", "self.grow(name, gradient)"),
            ('f"v/{name}": array.copy()', 'f"v/{name}": array'),
        ],
        "a_run_goes_on_bit_for_bit",
        "a later step changes the snapshot that state() returned (v/output.weight, v/output.bias)",
    ),
    "an item that is not used": (
        [('return LearnerState({**arrays, ', 'return LearnerState({**arrays, "spare": self.totals + 1, ')],
        "no_item_of_the_saved_state",
        "a run goes on the same without spare of its state()",
    ),
    "evaluate changes the state": (
        [('        y = np.asarray(split["y"][:])\n', '        y = np.asarray(split["y"][:])\n        self.harm()\n')],
        "evaluating_touches_nothing",
        "evaluate() changes w/output.bias of the state",
    ),
    "randomness without a seed": (
        [("np.random.Generator(np.random.Philox(key=self.training.seed, counter=step))", "np.random.default_rng()")],
        "equal_seeds_give_equal_learners",
        "two learners of one seed differ after 6 steps",
    ),
    "a rate that is not scaled": (
        [("    def weights(self):", "    def scale_rate(self, factor):\n        pass\n\n    def weights(self):")],
        "a_scaled_rate",
        "with scale_rate(0.5) it reports the learning rate 0.05 where it is 0.05 without",
    ),
    "a loss that is not finite is applied": (
        [("        if not np.isfinite(loss):\n            return\n", "")],
        "a_loss_that_is_not_finite",
        "a step whose loss is not finite changes output.weight, output.bias",
    ),
}  # fmt: skip
#: What the changes above call.
MORE = """

def count(self):
    self.n += 1
    return self.n


def harm(self):
    self.w["output.bias"] = self.w["output.bias"] + 1


def grow(self, name, gradient):
    self.v[name] *= 0.9
    self.v[name] += gradient


Pebble.count, Pebble.harm, Pebble.grow = count, harm, grow
"""


@pytest.mark.parametrize("what", WRONG)
def test_a_bad_learner_is_named(what: str, tmp_path: Path) -> None:
    changes, check, reason = WRONG[what]
    found = kit.check(write_family(tmp_path, changed(TORCH, *changes) + MORE), "--family=pebble", only=check)
    (said,) = found.failed.values()
    assert reason in said, found.output


THREAD = """
import threading, time

threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
"""
#: A machine of tests has no GPU that could be opened.
DEVICE = """
torch.cuda.is_initialized = lambda: True
"""


@pytest.mark.parametrize(
    ("lines", "reason"),
    [(THREAD, "its import starts 1 thread"), (DEVICE, "its import opens a GPU")],
    ids=["thread", "device"],
)
def test_a_learner_that_does_harm_at_import_is_named(lines: str, reason: str, tmp_path: Path) -> None:
    found = kit.check(write_family(tmp_path, TORCH + lines), "--family=pebble", only="importing_its_parts")
    assert reason in found.failed["importing_its_parts_starts_nothing"], found.output


def test_a_declaration_that_imports_a_framework_is_named(tmp_path: Path) -> None:
    write_family(tmp_path, declaration="import torch\n" + DECLARATION)
    found = kit.check(tmp_path, "--family=pebble", only="declaration")
    assert "the module of the Family imports torch" in found.failed["its_declaration_imports_no_framework"], (
        found.output
    )


#: Layers that fit the learner, with what makes them wrong.
LAYERS = """
    def expected_facts(self, summary):
        return {"classes": list("0123456789") if summary is None else summary["classes"]}

    def layers(self, facts):
        pixels = self.image_size[0] * self.image_size[1] * self.image_channels
        return [Layer("output", "dense, softmax", (len(facts["classes"]),), len(facts["classes"]) * (pixels + 1))]
"""
LAYERED = changed(
    DECLARATION,
    ("ImageSize, ModelSpec, Trial", "ImageSize, Layer, ModelSpec, Trial"),
    ("    image_channels: Literal[1, 3]\n", "    image_channels: Literal[1, 3]\n" + LAYERS),
)
#: What is wrong with them: a change, the check that says it, and its sentence.
WRONG_LAYERS = {
    "a bias that is left out": (
        ("(pixels + 1))]", "pixels)]"),
        "its_layers_hold_the_numbers_of_its_weights",
        "the layer output declares 640 parameters and its weights hold 650",
    ),
    "another name": (
        ('Layer("output"', 'Layer("dense"'),
        "its_layers_hold_the_numbers_of_its_weights",
        "no layer has the weight output.weight",
    ),
    "a framework": (
        ("        pixels = self", "        import torch\n        pixels = self"),
        "its_layers_need_no_framework",
        "layers() imports torch",
    ),
    "another model after JSON": (
        ("        pixels = self", "        assert self.model_fields_set == {'preset', 'image_size', 'image_channels'}\n"
         "        pixels = self"),
        "its_layers_survive_json",
        "layers() raises AssertionError",
    ),
    "facts that no run has": (
        ('return {"classes": ', 'return {"height": 8, "classes": '),
        "a_run_knows_the_facts_that_its_layers_need",
        "expected_facts() of no data set names height",
    ),
}  # fmt: skip


def test_a_family_with_layers_passes_and_one_without_is_told(tmp_path: Path) -> None:
    (tmp_path / "with").mkdir()
    found = kit.check(write_family(tmp_path / "with", declaration=LAYERED), "--family=pebble", only="layers")
    assert found.failed == {}, found.output
    assert len(found.passed) == 4
    (tmp_path / "without").mkdir()
    found = kit.check(write_family(tmp_path / "without"), "--family=pebble", only="layers")
    assert (found.failed, found.passed) == ({}, set())
    assert "declares no layers" in (tmp_path / "without" / "report.json").read_text()


@pytest.mark.parametrize("what", WRONG_LAYERS)
def test_wrong_layers_are_named(what: str, tmp_path: Path) -> None:
    change, check, reason = WRONG_LAYERS[what]
    write_family(tmp_path, declaration=changed(LAYERED, change))
    found = kit.check(tmp_path, "--family=pebble", only=check)
    assert reason in found.failed[check], found.output
