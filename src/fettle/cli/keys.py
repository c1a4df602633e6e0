"""`fettle keys`: who may use the server, and whose work it is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console

from fettle.cli.tables import print_table
from fettle.errors import ConfigError

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


@app.command("keep-traffic")
def keep_traffic(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `fettle keys list` shows it.")],
    days: Annotated[int | None, typer.Option(help="Delete each request after so many days.")] = None,
    share: Annotated[
        float, typer.Option(help="Share of requests whose texts are kept, up to 1; of the others, what they took.")
    ] = 1.0,
    redact: Annotated[
        bool,
        typer.Option("--redact/--no-redact", help="Replace personal data by their kind before anything is written."),
    ] = True,
    off: Annotated[bool, typer.Option("--off", help="Keep nothing more; what is kept stays until its day.")] = False,
) -> None:
    """Keep requests made with a key, and their answers; or no more of them. Running servers follow within two seconds."""
    from fettle.cli.store import open_store
    from fettle.store.traffic import TrafficRule, remove_rule, set_rule

    if off == (days is not None):
        raise ConfigError(
            "expected for how many days requests are kept", where="--days", remedy="give --days 30, say, or --off"
        )
    store = open_store()
    if days is None:
        remove_rule(store, key_id)
        typer.echo(
            f"Requests of {key_id} are kept no more. `fettle traffic forget --key {key_id}` deletes those there are."
        )
        return
    set_rule(store, TrafficRule(key_id=key_id, num_days=days, share=share, redacts=redact))
    typer.echo(f"Requests of {key_id} are kept for {days} days, personal data {'replaced' if redact else 'INCLUDED'}.")


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
