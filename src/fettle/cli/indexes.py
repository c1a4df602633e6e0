"""`fettle indexes`: which indexes there are, and what is in them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from fettle.cli.index import ProjectOption
from fettle.cli.named_index import named_index
from fettle.cli.tables import one_line, print_table

app = typer.Typer(
    no_args_is_help=True, help="Indexes of documents, which `fettle index` makes; the API's vector stores."
)
Name = Annotated[str, typer.Argument(help="As `fettle indexes list` shows it, or its id.")]
_MOST_SOURCE_CHARACTERS = 80


@app.command("list")
def list_() -> None:
    """Show all indexes, of all projects."""
    from fettle.cli.store import open_store
    from fettle.store.indexes import list_all_indexes, sizes_of
    from fettle.store.keys import list_projects

    lines = []
    with open_store().reading() as connection:
        projects = list_projects(connection)
        for index in list_all_indexes(connection):
            sizes = sizes_of(connection, index.id)
            numbers = (f"{sizes.num_documents:,}", f"{sizes.num_passages:,}")
            project = projects[index.project_id].name
            lines.append((index.name or "", index.id, project, *numbers, index.embedder, _when(index.last_active_at)))
    print_table(("name", "id", "project", "documents", "passages", "embedder", "last used"), lines)


@app.command()
def show(
    name: Name,
    project: ProjectOption = "default",
    documents: Annotated[bool, typer.Option("--documents", help="List its documents, too.")] = False,
) -> None:
    """Show what is known of an index."""
    from fettle.cli.store import open_store
    from fettle.retrieval.stored import describe_index
    from fettle.store.indexes import DocumentStatus, list_documents, sizes_of

    store = open_store()
    with store.reading() as connection:
        index = named_index(connection, project, name)
        described = describe_index(connection, index)
        sizes = sizes_of(connection, index.id)
        listed = list_documents(connection, index.id, status=DocumentStatus.COMPLETED) if documents else ()
    facts = {
        "name": index.name or "none",
        "id": index.id,
        "documents": f"{sizes.num_documents:,} ({sizes.num_bytes / 1e6:.1f} MB of text)",
        "passages": f"{sizes.num_passages:,}, of at most {index.passage_tokens} tokens, {index.overlap_tokens} repeated",
        "embedder": f"{index.embedder}, {index.num_dimensions} dimensions",
        "revision": index.embedder_revision,
        "searched by": index.backend,
        "generation": str(index.generation),
        "content": described.sha256,
        "made": _when(index.created_at),
        "last used": _when(index.last_active_at),
    }
    for title, value in facts.items():
        typer.echo(f"{title + ':':<13} {value}")
    if documents:
        typer.echo("")
        rows = [
            (one_line(one.source, _MOST_SOURCE_CHARACTERS), one_line(one.title, _MOST_SOURCE_CHARACTERS))
            for one in listed
        ]
        print_table(("document", "title"), rows)


@app.command()
def remove(
    name: Name,
    project: ProjectOption = "default",
    force: Annotated[bool, typer.Option("--force", help="Even where a release in force searches it.")] = False,
) -> None:
    """Delete an index with its passages. The documents stay where they are.

    Refused where a release that is in force, or that a rollback returns to, searches it.
    """
    from fettle.cli.store import open_store
    from fettle.releases.needed import require_unneeded
    from fettle.retrieval.indexing import delete_index

    store = open_store()
    with store.reading() as connection:
        index = named_index(connection, project, name)
        if not force:
            require_unneeded(
                connection, index_id=index.id, remedy=", or add --force: those releases cannot answer from then on"
            )
    delete_index(store, index)
    typer.echo(f"Removed: {index.name or index.id}")


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
