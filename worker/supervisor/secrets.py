"""Secrets of programs: kept in a file of the worker's host or in the worker's environment, given to the runner."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from nightshift.errors import ConfigurationError
from shared.errors import JobError

_LINE = re.compile(r"\s*([A-Z][A-Z0-9_]{0,99})\s*=(.*)")
#: Values shorter than this many characters would hide ordinary words.
SHORTEST = 6
#: Begins the name of a variable of the worker that holds a secret, for those that are not in the file.
VARIABLE = "NIGHTSHIFT_SECRET_"


class MissingSecret(JobError):
    """The worker does not have a secret that the job names."""

    type = "missing_secret"


def read(path: Path | None) -> dict[str, str]:
    """Return the secrets of the file. Raises ConfigurationError for one that others can read, or a malformed line."""
    if path is None:
        return {}
    try:
        mode, text = stat.S_IMODE(path.stat().st_mode), path.read_text()
    except OSError as error:
        raise ConfigurationError(f"NIGHTSHIFT_SECRETS_FILE {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigurationError(f"NIGHTSHIFT_SECRETS_FILE {path} can be read by others: chmod 600 {path}")
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigurationError(f"NIGHTSHIFT_SECRETS_FILE {path}: line {number} is not NAME=value")
        found[match[1]] = match[2].strip()
    return found


def chosen(names: Iterable[str], path: Path | None) -> dict[str, str]:
    """Return the secrets of a job. Raises MissingSecret, which names it and never a value."""
    names = list(names)
    found = {name: os.environ[VARIABLE + name] for name in names if VARIABLE + name in os.environ}
    found |= read(path) if names else {}
    for name in names:
        if name not in found:
            where = f"is not in {path}" if path else "is not known here: NIGHTSHIFT_SECRETS_FILE is not set"
            raise MissingSecret(f"the secret {name} {where}, nor is {VARIABLE}{name}")
        if len(found[name]) < SHORTEST:
            raise MissingSecret(
                f"the secret {name} has fewer than {SHORTEST} characters, which cannot be hidden in logs"
            )
    return {name: found[name] for name in names}
