"""The fixtures of the kit, and models that several modules start from: each is trained once in a test process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nightshift.testing.fixtures import *  # noqa: F403 - fixtures are found by their names here
from tests.support.kinds import Trained, trained


@pytest.fixture(scope="session")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Return a trained parent by the name of its case; it is trained on first use. Tests only read its files."""
    root, made = tmp_path_factory.mktemp("parents"), {}

    def parent(name: str) -> Trained:
        if name not in made:
            made[name] = trained(name, root)
        return made[name]

    return parent
