"""Tables for a perceptron: which rows and columns it learns from, and what is refused with column and row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nightshift.families.learner import Splits
from nightshift.families.training import Training
from nightshift.testing.datasets import store_given
from shared.errors import BadData
from tests.support.tables import stored_table
from worker.families.mlp import data
from worker.families.mlp.encoding import Encoding
from worker.families.mlp.family import MlpModel
from worker.families.mlp.weights import initial, layers_of, shapes

Load = Callable[..., Splits]


def stored(root: Path, content: str | pa.Table) -> Path:
    if isinstance(content, str):
        return store_given(root, {"t.csv": content}, "table")
    return stored_table(root, content)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(content: str | pa.Table, split: float = 0.0, seed: int = 0, **model: Any) -> Splits:
        spec = MlpModel.model_validate({"target": "y", **model})
        folder = stored(tmp_path / str(len(list(tmp_path.iterdir()))), content)
        return data.load_splits(folder, spec, Training(validation_split=split, seed=seed))

    return loaded


def csv(rows: int = 40, header: str = "a,b,y", row: Callable[[int], str] = lambda n: f"{n},x,{n % 2}") -> str:
    return header + "\n" + "".join(f"{row(n)}\n" for n in range(rows))


def columns(splits: Splits) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in splits.facts["preprocessing"]["columns"]}


# -- statistics -------------------------------------------------------------------------------------


def test_numbers_are_standardized_by_the_rows_that_are_trained_on(load: Load) -> None:
    splits = load(csv(200, row=lambda n: f"{n * n},{'uvw'[n % 3]},{n % 2}"), split=0.2)
    assert splits.validation is not None
    assert splits.test is not None
    assert (len(splits.test["y"]), len(splits.validation["y"]), splits.length) == (40, 32, 128)
    x = splits.train["x"]
    assert x[:, 0].mean() == pytest.approx(0, abs=1e-5)
    assert x[:, 0].std() == pytest.approx(1, abs=1e-5)
    assert abs(splits.test["x"][:, 0].mean()) > 1e-4
    number = columns(splits)["a"]
    raw = x[:, 0].astype(np.float64) * number["std"] + number["mean"]
    trained = np.sqrt(np.round(raw)).astype(int)
    assert len({*trained, *splits.test["row"]}) == 168
    assert number["mean"] == pytest.approx(np.square(trained.astype(float)).mean())


def test_missing_numbers_become_the_median_and_are_marked(load: Load) -> None:
    splits = load(csv(100, row=lambda n: f"{'' if n % 5 == 0 else n},{n},{n % 2}"))
    number = columns(splits)["a"]
    assert (number["marked"], columns(splits)["b"]["marked"]) == (True, False)
    marked = splits.train["x"][:, 1] == 1
    assert 0 < marked.sum() < splits.length
    np.testing.assert_allclose(
        splits.train["x"][marked, 0], (number["median"] - number["mean"]) / number["std"], rtol=1e-5
    )


def test_categories_have_an_input_each_and_the_rest_shares_one(load: Load) -> None:
    splits = load(csv(90, row=lambda n: f"{n},{('red', 'blue', '')[n % 3]},{n % 2}"))
    assert sorted(columns(splits)["b"]["values"]) == ["blue", "red"]
    hot = splits.train["x"][:, 1:]
    assert hot.shape[1] == 3
    assert (hot.sum(axis=1) == 1).all()
    assert 15 < hot[:, 2].sum() < 30


def test_only_the_most_frequent_categories_of_a_chosen_column_are_kept(load: Load) -> None:
    text = csv(400, row=lambda n: f"{n},name {n if n < 250 else 7},{n % 2}")
    assert "b" not in columns(load(text))
    left = load(text, categorical=["b"])
    kept = columns(left)["b"]["values"]
    assert (len(kept), kept[0]) == (100, "name 7")
    assert load(text).notes[0].startswith("left out, too many different texts")


def test_truth_days_and_whole_numbers_named_as_categories(load: Load) -> None:
    text = csv(60, "a,b,c,d,y", lambda n: f"{n % 2 == 0},2024-01-{n % 28 + 1:02d},{n % 4},{n},{n % 2}")
    found = columns(load(text, categorical=["c"]))
    assert sorted(found["a"]["values"]) == ["false", "true"]
    assert 19_700 < found["b"]["mean"] < 19_760  # days since 1970
    assert sorted(found["c"]["values"]) == ["0", "1", "2", "3"]
    assert found["d"]["kind"] == "numbers"


def test_constant_empty_and_foreign_columns_are_left_out_and_said(load: Load) -> None:
    table = pa.table(
        {
            "a": np.arange(30.0), "same": [5] * 30, "none": pa.array([None] * 30, pa.float64()),
            "lists": [[1]] * 30, "one": ["x"] * 30, "y": [n % 2 for n in range(30)],
        }
    )  # fmt: skip
    splits = load(table)
    assert list(columns(splits)) == ["a"]
    said = " ".join(splits.notes)
    assert "the same value in all rows: same, one" in said
    assert "without any value: none" in said
    assert "no numbers or texts (list<" in said


def test_large_and_infinite_numbers_do_not_overflow(load: Load) -> None:
    table = pa.table(
        {"a": [1e300 * n for n in range(30)], "b": [float("inf"), *map(float, range(29))], "y": [0, 1] * 15}
    )
    splits = load(table)
    assert np.isfinite(splits.train["x"]).all()
    assert splits.train["x"][:, 0].std() == pytest.approx(1, abs=1e-3)


def test_chosen_features_alone_are_read(load: Load) -> None:
    text = csv(40, "a,b,c,y", lambda n: f"{n},{-n},{n % 3},{n % 2}")
    assert list(columns(load(text, features=["c", "a"]))) == ["c", "a"]


# -- parts ------------------------------------------------------------------------------------------


def test_the_test_part_is_a_fifth_of_each_class_and_always_the_same(load: Load) -> None:
    text = csv(100, row=lambda n: f"{n},x,{'rare' if n % 10 == 0 else 'often'}")
    one, other = load(text, split=0.1), load(text, split=0.3, seed=9, features=["a"])
    assert one.test is not None
    assert other.test is not None
    assert one.test["row"].tolist() == other.test["row"].tolist()
    assert np.bincount(one.test["y"]).tolist() == [18, 2]
    assert one.facts["classes"] == ["often", "rare"]


def test_a_column_of_parts_divides_the_rows_and_is_no_feature(load: Load) -> None:
    text = csv(60, "a,split,y", lambda n: f"{n},{('train', 'train', 'valid', 'test')[n % 4]},{n % 3 % 2}")
    splits = load(text, split=0.1)
    assert splits.test is not None
    assert splits.validation is not None
    assert (splits.length, len(splits.validation["y"]), splits.test["row"].tolist()) == (30, 15, list(range(3, 60, 4)))
    assert list(columns(splits)) == ["a"]
    assert load(text, split=0.0).validation is None
    assert "split" in columns(load(text.replace("valid", "other")))


def test_rows_without_a_target_are_left_out_and_counted(load: Load) -> None:
    splits = load(csv(50, row=lambda n: f"{n},x,{'' if n % 10 == 0 else n % 2}"))
    assert splits.test is not None
    assert splits.length + len(splits.test["y"]) == 45
    assert "left out, no target: 5 of 50 rows" in splits.notes
    assert not {0, 10, 20, 30, 40} & set(splits.test["row"].tolist())


# -- targets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "settings", "classes"),
    [
        (["x", "y"], {}, ["x", "y"]),
        (["true", "false"], {}, ["false", "true"]),
        (["10", "9"], {}, ["9", "10"]),
        ([str(n) for n in range(11)], {}, None),
        ([str(n) for n in range(11)], {"task": "classes"}, [str(n) for n in range(11)]),
        (["0", "1"], {"task": "numbers"}, None),
        (["0", "1"], {"loss": "mean_absolute_error"}, None),
        (["0.5", "1.5"], {}, None),
    ],
)
def test_the_task_follows_from_the_settings_or_the_type(
    load: Load, values: list[str], settings: dict[str, Any], classes: list[str] | None
) -> None:
    splits = load(csv(66, row=lambda n: f"{n},{n},{values[n % len(values)]}"), **settings)
    assert splits.facts.get("classes") == classes
    assert splits.facts["preprocessing"]["task"] == ("numbers" if classes is None else "classes")


def test_classes_of_whole_numbers_with_missing_ones_have_no_point(load: Load) -> None:
    table = pa.table({"a": np.arange(40.0), "y": [None, *[float(n % 3) for n in range(39)]]})
    assert load(table, task="classes").facts["classes"] == ["0", "1", "2"]


def test_numbers_keep_their_units_and_their_scale(load: Load) -> None:
    splits = load(csv(100, row=lambda n: f"{n},x,{1000 + n}.5"))
    scale = splits.facts["preprocessing"]["scale"]
    assert splits.train["y"].dtype == np.float64
    assert (scale["mean"], scale["std"]) == (
        pytest.approx(splits.train["y"].mean()),
        pytest.approx(splits.train["y"].std()),
    )


# -- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (csv(), {"target": None}, r"model\.target: is required: the column to predict\. the data set has a, b, y"),
        (csv(), {"target": "Y1"}, r"model\.target: the data set has no column 'Y1'; did you mean 'y'\?"),
        (csv(), {"features": ["a", "bb"]}, r"model\.features\.1: the data set has no column 'bb'; did you mean 'b'\?"),
        (csv(row=lambda n: f"{n},x,one"), {}, r"column 'y' has only one class \(one\) to train on"),
        (csv(row=lambda n: f"{n},x,"), {}, r"column 'y' has no value in any row"),
        (csv(row=lambda n: f"{n},x,{'abc' if n == 16 else n}"), {"task": "numbers"}, r"'y' is text: row 17 has 'abc'"),
        (
            csv(row=lambda n: f"{'abc' if n == 16 else n},x,{n % 2}"),
            {},
            r"column 'a' is text, because row 17 has 'abc'",
        ),
        (csv(row=lambda n: f"{n},x,{n}.5"), {"task": "classes"}, r"column 'y' holds fractions"),
        (csv(row=lambda n: f"1,x,{n % 2}"), {}, r"no column to learn from beside the target; left out, the same value"),
        (csv(row=lambda n: f"{n},x,2024-01-{n % 28 + 1:02d}"), {}, r"column 'y' holds dates"),
        (csv(2_000, row=lambda n: f"{n},x,name {n}"), {}, r"column 'y' has 2,000 different values; at most 1,000"),
        (csv(2, row=lambda n: f"{n},x,{n}.5"), {}, r"the table has 1 rows to train on; at least two are needed"),
    ],
)
def test_what_cannot_be_learned_is_refused_by_column_and_row(
    load: Load, text: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadData, match=message):
        load(text, **settings)


def test_nearly_numbers_are_categories_where_the_job_says_so(load: Load) -> None:
    text = csv(row=lambda n: f"{'abc' if n == 16 else n % 3},x,{n % 2}")
    assert set(columns(load(text, categorical=["a"]))["a"]["values"]) >= {"0", "1", "2"}


def test_images_are_no_table(tmp_path: Path) -> None:
    from nightshift.testing.datasets import store_tale

    with pytest.raises(BadData, match="a model of tables needs a table, this data set holds text"):
        data.load_splits(store_tale(tmp_path), MlpModel(target="y"), Training())


# -- a trained model --------------------------------------------------------------------------------


def test_a_trained_model_keeps_columns_and_statistics_on_another_table(load: Load, tmp_path: Path) -> None:
    first = load(csv(100, row=lambda n: f"{n},{'uv'[n % 2]},{n % 2}"))
    other = stored(tmp_path / "other", csv(50, "y,b,a,more", lambda n: f"{n % 2},{'vw'[n % 2]},{5 * n},{n}"))
    model = MlpModel(target="y")
    tuned = data.load_tuning(other, model, Training(validation_split=0.1), first.facts)
    assert tuned.facts == first.facts
    number = columns(first)["a"]
    assert tuned.train["x"][:, 0].max() * number["std"] + number["mean"] > 200
    hot = tuned.train["x"][:, 1:]
    other_place = 2
    assert hot[:, other_place].sum() == (tuned.train["y"] == 1).sum()  # w is unknown
    tested = data.load_test(other, model, first.facts)
    assert tested.test is not None
    assert tested.test["x"].shape == (10, 4)
    assert tested.facts == first.facts


def test_classes_keep_their_places_or_are_refused_by_an_evaluation(load: Load, tmp_path: Path) -> None:
    model = MlpModel(target="y")
    facts = load(csv(60, row=lambda n: f"{n},x,{'abc'[n % 3]}")).facts
    some = stored(tmp_path / "some", csv(40, row=lambda n: f"{n},x,{'cb'[n % 2]}"))
    new = stored(tmp_path / "new", csv(40, row=lambda n: f"{n},x,{'cd'[n % 2]}"))
    tuned = data.load_tuning(some, model, Training(), facts)
    assert (tuned.facts["classes"], sorted(set(tuned.train["y"]))) == (["a", "b", "c"], [1, 2])
    assert data.load_tuning(new, model, Training(), facts).facts["classes"] == ["c", "d"]
    with pytest.raises(BadData, match="does not know the classes d of the data set; it knows a, b, c"):
        data.load_test(new, model, facts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (csv(header="a,c,y"), "the table has no column 'b', which the model needs"),
        (csv(header="a,b,z"), "the table has no column 'y'"),
        (csv(row=lambda n: f"{'abc' if n == 16 else n},x,{n % 2}"), "column 'a' is text: row 17 has 'abc'"),
    ],
)
def test_a_table_that_a_trained_model_cannot_read_is_refused(
    load: Load, tmp_path: Path, text: str, message: str
) -> None:
    facts = load(csv(row=lambda n: f"{n},{'uv'[n % 2]},{n % 2}")).facts
    with pytest.raises(BadData, match=message):
        data.load_test(stored(tmp_path / "bad", text), MlpModel(target="y"), facts)


# -- weights ----------------------------------------------------------------------------------------


def test_layers_are_those_of_the_weights_and_unknown_categories_begin_with_nothing(load: Load) -> None:
    facts = load(csv(60, row=lambda n: f"{n},{'uvw'[n % 3]},{n % 2}")).facts
    model = MlpModel(target="y", hidden=[8, 5])
    layers, found = layers_of(model, facts), shapes(model, facts)
    assert sum(layer.parameters for layer in layers) == sum(int(np.prod(shape)) for shape in found.values())
    assert [(layer.name, layer.shape) for layer in layers] == [("dense0", (8,)), ("dense1", (5,)), ("output", (2,))]
    weights = initial(model, facts, 0)
    (other,) = Encoding.of(facts).others()
    assert (weights["dense0.weight"][:, other] == 0).all()
    assert (np.delete(weights["dense0.weight"], other, 1) != 0).all()
