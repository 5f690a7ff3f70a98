"""The program, by hand: `pip install nightshift[tensorflow] pytest`, `pip install .`, `pytest`."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from nightshift_keras_script.program import PROGRAM, Params

SCRIPT = Path(__file__).parents[1] / "script.py"
JOB = {"kind": "run", "program": "digits", "params": {"epochs": 2}, "seed": 7}


def test_the_declaration_imports_no_framework():
    code = (
        "import sys, nightshift_keras_script.program; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_parameters_are_strict():
    assert Params().epochs == 10
    for wrong in ({"epochs": 0}, {"epochs": "2"}, {"epoch": 2}):
        with pytest.raises(ValidationError):
            Params.model_validate(wrong)
    assert PROGRAM.promise == "exact"


def test_the_script_runs_without_nightshift(tmp_path, monkeypatch, capsys):
    generator = np.random.default_rng(1)
    np.savez(tmp_path / "data.npz", x=generator.normal(size=(40, 2, 2)), y=generator.integers(0, 3, 40))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["script.py", "data.npz"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert (tmp_path / "model.keras").exists()
    assert "accuracy" in capsys.readouterr().out.splitlines()[-1]


def test_a_job_trains_a_model(tmp_path):
    (tmp_path / "job.json").write_text(json.dumps(JOB))
    command = [sys.executable, "-m", "worker.run_job", str(tmp_path / "job.json"), str(tmp_path / "out")]
    subprocess.run(command, check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"})
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["name"] == "val_accuracy"] == [23, 46]
    assert max(row["value"] for row in rows if row["name"] == "val_accuracy") > 0.5
    assert (tmp_path / "out" / "artifacts" / "model" / "model.keras").exists()
