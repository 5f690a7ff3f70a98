"""The database of commands that write to it directly: NIGHTSHIFT_DATABASE_URL, else the data folder's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nightshift.cli.options import data_dir

if TYPE_CHECKING:
    from sqlalchemy import Connection


@contextmanager
def writing(ctx: typer.Context) -> Iterator[Connection]:
    """Open a write transaction. Raises ConfigurationError if the schema is missing or not current."""
    from sqlalchemy import make_url

    from api.commands.doctor import read_settings
    from nightshift.errors import ConfigurationError
    from shared.db.engine import make_engine, write
    from shared.db.revision import is_current

    settings = read_settings(data_dir(ctx))
    shown = make_url(settings.sql_url).render_as_string(hide_password=True)
    advice = (
        "run `nightshift migrate` (or `nightshift up`), or point to the database with NIGHTSHIFT_DATABASE_URL "
        "or --data-dir"
    )
    if not _exists(settings.sql_url):
        raise ConfigurationError(f"there is no database at {shown}: {advice}")
    engine = make_engine(settings.sql_url)
    try:
        if not is_current(engine):
            raise ConfigurationError(f"the schema of {shown} is not up to date: {advice}")
        with write(engine) as conn:
            yield conn
    finally:
        engine.dispose()


def is_configured(ctx: typer.Context) -> bool:
    """Return whether there is a database to write to; a file of SQLite that does not exist is none."""
    from api.commands.doctor import read_settings

    return _exists(read_settings(data_dir(ctx)).sql_url)


def _exists(sql_url: str) -> bool:
    from sqlalchemy import make_url

    url = make_url(sql_url)
    return not (url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists())
