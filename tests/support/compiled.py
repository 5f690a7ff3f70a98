"""Shares compiled SQL statements between the engines of a test process, as the one engine of a service does.

Each test has an engine of its own, and SQLAlchemy keeps compiled statements by engine and dialect object: compiling the
same ones anew took two thirds of the time of a small test.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine

from shared.db import engine as engines

#: Statements, more than the service has.
SIZE = 10_000
#: By the name of the dialect.
_caches: dict[str, Any] = {}
_classes: dict[str, Any] = {}


def share() -> None:
    """Share the statements of all engines that are made from now on."""
    engines.create_engine = _create_engine  # type: ignore[attr-defined]


def _create_engine(url: Any, **options: Any) -> Engine:
    made = create_engine(url, query_cache_size=SIZE, **options)
    made.dialect.__class__ = _classes.setdefault(made.dialect.name, _equal(type(made.dialect)))
    made._compiled_cache = _caches.setdefault(made.dialect.name, made._compiled_cache)
    return made


def _equal(dialect: type) -> type:
    """Return a class whose objects are equal as keys: their engines differ in nothing that statements depend on."""
    same: dict[str, Any] = {
        "__eq__": lambda one, other: type(one) is type(other),
        "__hash__": lambda one: hash(type(one)),
        "supports_statement_cache": True,  # SQLAlchemy asks each class itself
    }
    return type(dialect.__name__, (dialect,), same)
