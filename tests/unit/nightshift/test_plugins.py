"""Installed programs and families: which are offered, and why others are not."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightshift.entry_points import missing, names_of
from nightshift.families import Family, Framework, ModelSpec, Parts
from nightshift.metrics import sense
from nightshift.plugins import installed_families, installed_programs, offered_families
from nightshift.programs import Program
from tests.support.own_family import write_family
from tests.support.plugins import installed, write_package


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    installed(tmp_path, monkeypatch)
    return tmp_path


def test_an_allowed_program_is_found_with_its_package(folder: Path) -> None:
    write_package(folder)
    found = installed_programs(["walk"])["walk"]
    assert found.error is None
    assert (found.package, found.declared and found.declared.promise) == ("nightshift-walk 1.0", "exact")
    assert len(found.record_sha256) == 64


def test_the_hash_follows_the_files(folder: Path) -> None:
    before = installed_programs_of(write_package(folder))
    assert installed_programs_of(write_package(folder, training="def train(run): ...")) != before


def test_the_hash_is_that_of_the_wheel_however_it_was_installed(folder: Path) -> None:
    before = installed_programs_of(write_package(folder))
    record = folder / "nightshift_walk-1.0.dist-info" / "RECORD"
    lines = [
        "__pycache__/walk_program.cpython-311.pyc,,",
        "../../../bin/walk,sha256=x,3",
        *(f"nightshift_walk-1.0.dist-info/{name},sha256=y,4" for name in ("INSTALLER", "RECORD", "direct_url.json")),
        *reversed(record.read_text().splitlines()),
    ]
    record.write_text("\n".join(lines))
    assert installed_programs_of(folder) == before
    record.write_text("\n".join([*lines, "walk_data.py,sha256=z,5"]))
    assert installed_programs_of(folder) != before


def installed_programs_of(_: Path) -> str:
    return installed_programs(["walk"])["walk"].record_sha256


def test_metrics_of_an_allowed_program_are_known(folder: Path) -> None:
    write_package(folder, more=', metrics={"test_r2": Metric("R²", "max")}')
    assert installed_programs(["walk"])["walk"].error is None
    assert sense("val_r2") == "max"


def test_one_that_is_not_allowed_is_not_even_imported(folder: Path) -> None:
    write_package(folder)
    assert installed_programs(["other"]) == {}
    assert "walk_program" not in sys.modules


def test_an_allowed_name_without_a_package_is_missing() -> None:
    assert list(missing(["walk", "gone"], {})) == ["walk", "gone"]


@pytest.mark.parametrize(
    ("package", "error"),
    [
        ({"declaration": "import not_installed_anywhere"}, "No module named 'not_installed_anywhere'"),
        ({"declaration": "raise SystemExit(3)"}, "SystemExit: 3"),
        ({"declaration": "PROGRAM = 3"}, "leads to int, not to a nightshift.programs.Program"),
        ({"entry": "walk = walk_program:NOTHING"}, "AttributeError"),
        ({"more": ', requires=">=99"'}, "requires nightshift >=99; this is"),
        ({"more": ', requires="newest"'}, "not a version specifier: 'newest'"),
        ({"more": ', metrics={"accuracy": Metric("accuracy", "min")}'}, "the metric accuracy as Metric("),
        ({"more": ', metrics={"r2": "max"}'}, "the metric 'r2' of the program 'walk' must be a Metric"),
        ({"more": ', evaluate="score"'}, "evaluate of the program 'walk' must be 'package.module:function'"),
        ({"more": ', framework="jax"'}, "must be one of torch, tensorflow, or None"),
    ],
)
def test_a_broken_one_is_listed_with_its_error_and_stops_nothing(
    folder: Path, package: dict[str, str], error: str
) -> None:
    write_package(folder, **package)  # type: ignore[arg-type]
    found = installed_programs(["walk"])["walk"]
    assert found.declared is None
    assert error in str(found.error)


def test_a_program_of_another_name_than_its_entry_point_is_refused(folder: Path) -> None:
    write_package(folder, entry="stroll = walk_program:PROGRAM")
    assert "is named 'stroll' and its Program 'walk'" in str(installed_programs(["stroll"])["stroll"].error)


def test_two_packages_with_a_program_of_one_name_are_both_refused(folder: Path) -> None:
    write_package(folder)
    write_package(folder, name="nightshift-walk-too")
    error = str(installed_programs(["walk"])["walk"].error)
    assert "nightshift-walk and nightshift-walk-too" in error


def test_names_of_a_setting() -> None:
    assert names_of(" walk, gbm,,walk ") == ("walk", "gbm")
    assert names_of("") == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "Walk"}, "the name of a program"),
        ({"name": "a" * 17}, "the name of a program"),
        ({"train": "module"}, "package.module:function"),
        ({"train": "mod ule:train"}, "package.module:function"),
        ({"promise": "always"}, "promise of the program"),
        ({"dataset_kinds": ("csv",)}, "must be a list of image, text, files, table; it is .'csv',."),
        ({"dataset_kinds": "table"}, "must be a list of image, text, files, table; it is 'table'"),
    ],
)
def test_a_declaration_names_what_is_wrong(wrong: dict[str, Any], message: str) -> None:
    fields = {"name": "walk", "train": "walk.training:train", "params": object} | wrong
    with pytest.raises(ValueError, match=message):
        Program(**fields)  # type: ignore[arg-type]


# -- families -------------------------------------------------------------------------------------


def test_the_families_of_nightshift_are_found_without_a_setting() -> None:
    found = installed_families()
    assert offered_families("") == tuple(found) == ("cnn", "gan", "gru_lm", "mlp", "tagger", "text_classifier")
    assert all(one.is_builtin and one.error is None for one in found.values())


def test_an_installed_family_is_offered_only_if_it_is_named(folder: Path) -> None:
    write_family(folder)
    assert "linear" not in installed_families()
    assert "linear_family" not in sys.modules
    assert offered_families("linear, built-in,gone") == (
        "linear",
        "cnn",
        "gan",
        "gru_lm",
        "mlp",
        "tagger",
        "text_classifier",
        "gone",
    )
    found = installed_families(["linear", "gone"])
    assert set(found) == {"cnn", "gan", "gru_lm", "mlp", "tagger", "text_classifier", "linear"}
    assert (found["linear"].package, found["linear"].is_builtin) == ("nightshift-linear 1.0", False)


def test_a_family_of_nightshift_cannot_be_shadowed(folder: Path) -> None:
    write_family(folder, entry="cnn = linear_family:FAMILY")
    found = installed_families(["cnn"])["cnn"]
    assert found.is_builtin
    assert found.declared is not None
    assert found.declared.learners["torch"].startswith("worker.")


@pytest.mark.parametrize(
    ("package", "error"),
    [
        ({"declaration": "import not_installed_anywhere"}, "No module named 'not_installed_anywhere'"),
        ({"declaration": "FAMILY = 3"}, "leads to int, not to a nightshift.families.Family"),
        ({"more": 'requires=">=99"'}, "requires nightshift >=99; this is"),
        ({"entry": "linear = linear_family:LinearModel"}, "not to a nightshift.families.Family"),
        ({"more": "state_version=[]"}, "state_version of the family 'linear' must be a whole number"),
    ],
)
def test_a_broken_family_is_listed_with_its_error_and_stops_nothing(
    folder: Path, package: dict[str, str], error: str
) -> None:
    write_family(folder, **package)  # type: ignore[arg-type]
    found = installed_families(["linear"])
    assert found["linear"].declared is None
    assert error in str(found["linear"].error)
    assert found["cnn"].declared is not None


class _Model(ModelSpec):
    family: str = "own"
    framework: Framework = "torch"
    preset: str = "small"


_Model.PRESETS = {"small": {}}
_PARTS = Parts(load_splits="own.data:load", load_test="own.data:load_test", report="own.report:report")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "Own"}, "the name of a family"),
        ({"name": "other"}, "family of the model of the family 'other' must default to 'other'"),
        ({"default_preset": "large"}, "preset of the model of the family 'own' must default to 'large'"),
        ({"training_defaults": {"large": {}}}, "has no preset large"),
        ({"learners": {}}, "learners of the family 'own' must be of torch, tensorflow"),
        ({"learners": {"jax": "own.jax:build"}}, "must be of torch, tensorflow"),
        ({"learners": {"torch": "own.torch"}}, "torch of the family 'own' must be 'package.module:function'"),
        ({"parts": replace(_PARTS, draw="own plots:draw")}, "draw of the family 'own' must be"),
        ({"tasks": ("predict",)}, "has tasks of batch inference and no part open_source"),
        ({"judged_by": ("test_loss",)}, "is judged by metrics and has no part examples"),
        ({"state_version": "2"}, "state_version of the family 'own' must be a whole number"),
    ],
)
def test_a_family_names_what_is_wrong(wrong: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "name": "own", "model": _Model, "default_preset": "small", "learners": {"torch": "own.learner:build"},
        "parts": _PARTS, "dataset_kind": "image",
    }  # fmt: skip
    Family(**fields)
    with pytest.raises(ValueError, match=message):
        Family(**fields | wrong)
