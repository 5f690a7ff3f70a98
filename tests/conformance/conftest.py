"""Models that several modules start from: each is trained once in a test process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.kinds import Trained, trained


@pytest.fixture(scope="session")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """By the name of its case; trained when first asked for. Nobody changes what is there."""
    root, made = tmp_path_factory.mktemp("parents"), {}

    def parent(name: str) -> Trained:
        if name not in made:
            made[name] = trained(name, root)
        return made[name]

    return parent
