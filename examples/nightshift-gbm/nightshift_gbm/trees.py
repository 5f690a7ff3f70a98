"""A gradient boosting model as plain arrays, and back: no pickle, which would run code when it is read.

Each tree gives its nodes and values as arrays (`Tree.__getstate__`), as for a pickle; what else a fitted model has
follows from its settings and from the priors of the classes, or the mean of the target.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.tree._tree import Tree

Model: TypeAlias = GradientBoostingClassifier | GradientBoostingRegressor
Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


def new_model(settings: Mapping[str, Any], rng: np.random.RandomState, *, classes: int) -> Model:
    """Return a model without trees. `classes`: 0 for regression."""
    kind = GradientBoostingClassifier if classes else GradientBoostingRegressor
    return kind(warm_start=True, random_state=rng, **settings)


def to_arrays(model: Model) -> Arrays:
    """Return all that the fitted model has learned."""
    states = [tree.tree_.__getstate__() for tree in model.estimators_.ravel()]
    nodes = np.concatenate([state["nodes"] for state in states])  # without the padding of each node
    return {
        "nodes": nodes.view(np.uint8).reshape(len(nodes), -1),
        "values": np.concatenate([state["values"] for state in states]),
        "counts": np.array([state["node_count"] for state in states], np.int64),
        "depths": np.array([state["max_depth"] for state in states], np.int64),
        "losses": np.asarray(model.train_score_, np.float64),
        "start": _start(model),
    }


def from_arrays(arrays: Mapping[str, npt.NDArray[Any]], model: Model, *, columns: int, classes: int) -> Model:
    """Give a new model what was learned. Raises ValueError for nodes of another version of scikit-learn."""
    rows = max(classes, 2)
    model.set_params(n_estimators=1).fit(np.zeros((rows, columns)), np.arange(rows))
    like = model.estimators_[0, 0]
    dtype = like.tree_.__getstate__()["nodes"].dtype
    packed = np.dtype([(name, dtype[name]) for name in dtype.names])
    if arrays["nodes"].shape[1] != packed.itemsize:
        raise ValueError("the trees are of another version of scikit-learn")
    nodes = np.ascontiguousarray(arrays["nodes"]).view(packed).ravel().astype(dtype)
    per_stage = model.estimators_.shape[1]
    stages = len(arrays["counts"]) // per_stage
    ends = np.cumsum(arrays["counts"])
    trees = np.empty(stages * per_stage, dtype=object)
    for place, (end, count, depth) in enumerate(zip(ends, arrays["counts"], arrays["depths"], strict=True)):
        part = slice(int(end - count), int(end))
        trees[place] = _tree(like, nodes[part], arrays["values"][part], int(depth), columns)
    model.estimators_ = trees.reshape(stages, per_stage)
    model.train_score_ = np.array(arrays["losses"], np.float64)
    model.n_estimators_ = stages
    model.init_.__dict__[_start_name(model)] = np.array(arrays["start"], np.float64)
    return model.set_params(n_estimators=stages)


def _tree(like: Any, nodes: Any, values: Any, depth: int, columns: int) -> Any:
    tree = copy.copy(like)
    tree.tree_ = Tree(columns, np.array([1], np.intp), 1)
    state = {"max_depth": depth, "node_count": len(nodes), "nodes": nodes.copy(), "values": values.copy()}
    tree.tree_.__setstate__(state)
    return tree


def _start_name(model: Model) -> str:
    return "class_prior_" if isinstance(model, GradientBoostingClassifier) else "constant_"


def _start(model: Model) -> npt.NDArray[np.float64]:
    return np.asarray(getattr(model.init_, _start_name(model)), np.float64)
