"""The list of commands: what it says is what each command says of itself."""

from __future__ import annotations

import pytest

from nightshift.cli.app import whole_command
from nightshift.cli.registry import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_has_the_first_sentence_of_each_command(name: str) -> None:
    command = whole_command().commands[name]
    assert command.name == name
    assert (command.help or "").replace("\n", " ").startswith(COMMANDS[name].help)
