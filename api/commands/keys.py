"""`nightshift keys`: manage keys directly in the database, because the API itself requires a key."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.database import writing
from nightshift.cli.errors import CommandGroup
from nightshift.cli.options import AsJson
from nightshift.cli.render import output
from nightshift.cli.render.tables import Field, print_items

app = typer.Typer(
    cls=CommandGroup,
    help="Create, list and revoke API keys in the database. It is NIGHTSHIFT_DATABASE_URL, else the data folder's.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


FIELDS = {
    "id": Field("id"),
    "name": Field("name"),
    "owner": Field("owner_id", 1),
    "state": Field(lambda key: "revoked" if key["revoked_at"] else "valid"),
    "age": Field(lambda key: output.age(key["created_at"]), 2, right=True),
}


@app.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the key, e.g. ci.")],
    owner: Annotated[
        str | None,
        typer.Option(help="Owner of an existing key (see `keys list`), to share its jobs; default: a new owner."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. It is shown only once and stored as a hash."""
    from shared.fleet import keys as store

    with writing(ctx) as conn:
        made, secret = store.create(conn, name, owner)
    if as_json:
        return output.print_json({"id": made.key_id, "name": name, "owner_id": made.owner_id, "key": secret})
    print(secret)
    output.print_note(
        f"Key {made.key_id} of owner {made.owner_id}. It is not shown again: store it, and pass it in "
        "NIGHTSHIFT_API_KEY."
    )
    return None


@app.command("list")
def list_keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List keys by id and name; the keys themselves are not stored."""
    from shared.fleet import keys as store

    with writing(ctx) as conn:
        found = store.list_keys(conn)
    print_items(found, FIELDS, "No keys. `nightshift keys create NAME`", as_json=as_json)


@app.command("revoke")
def revoke(ctx: typer.Context, key_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Revoke a key at once. Its owner's jobs are kept."""
    from shared.fleet import keys as store

    with writing(ctx) as conn:
        store.revoke(conn, key_id)
    print(f"{key_id} revoked")
