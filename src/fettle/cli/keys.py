"""`fettle keys`: who may use the server, and whose work it is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console

from fettle.cli.tables import print_table

app = typer.Typer(
    no_args_is_help=True, help="Keys of the server. Each belongs to a project, which sees only its own work."
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, so that you know it again.")] = "key",
    project: Annotated[str, typer.Option(help="The project that it opens; made where there is none.")] = "default",
) -> None:
    """Make a key. It is shown once: only its hash is kept."""
    from fettle.cli.store import open_store
    from fettle.store.keys import create_key

    secret, key = create_key(open_store(), name, project)
    console = Console(stderr=True)
    console.print(f"Key {key.id} of the project {key.project}; it is not shown again:", highlight=False, markup=False)
    typer.echo(secret)


@app.command("list")
def list_() -> None:
    """Show all keys, as far as they are kept."""
    from fettle.cli.store import open_store
    from fettle.store.keys import list_keys

    lines = []
    for key in list_keys(open_store()):
        state = "in use" if key.revoked_at is None else f"revoked {_when(key.revoked_at)}"
        lines.append((key.id, key.project, key.name, key.hint, _when(key.created_at), state))
    print_table(("id", "project", "name", "ends in", "made", "state"), lines)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `fettle keys list` shows it.")]) -> None:
    """Let a key open nothing any more, from the next request on."""
    from fettle.cli.store import open_store
    from fettle.store.keys import revoke_key

    revoke_key(open_store(), key_id)
    typer.echo(f"Revoked: {key_id}")


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
