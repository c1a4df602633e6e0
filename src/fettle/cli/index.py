"""`fettle index`: documents into passages that can be searched; again, only what changed."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fettle.cli.findings import print_findings
from fettle.errors import ConfigError

if TYPE_CHECKING:
    from fettle.retrieval.embedder import PassageEmbedder
    from fettle.retrieval.indexing import IndexUpdate
    from fettle.retrieval.records import PassageSettings
    from fettle.store.database import Store
    from fettle.store.indexes import Sizes

_DEFAULT_PROJECT = "default"
ProjectOption = Annotated[str, typer.Option(help="The project whose index it is.")]


def index(
    documents: Annotated[str, typer.Argument(help="A file, a folder, or an fsspec URL such as s3://bucket/manuals.")],
    name: Annotated[str, typer.Option(help="What the index is called; made where there is none.")],
    passage_tokens: Annotated[
        int | None,
        typer.Option(help="Longest passage, headings included, in tokens of the embedder. Default: 200."),
    ] = None,
    overlap_tokens: Annotated[
        int | None,
        typer.Option(help="Whole sentences that a passage repeats from the one before, in tokens. Default: 0."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            help="A sentence-transformers model on this machine, by its folder or as org/name. Default: all-MiniLM-L6-v2, which "
            "comes with Fettle."
        ),
    ] = None,
    embedder_url: Annotated[
        str | None,
        typer.Option(
            help="Base URL of an OpenAI-compatible endpoint that embeds with --embedder (key: FETTLE_EMBEDDER_API_KEY)."
        ),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Cut and embed all documents anew; the index can be searched meanwhile.")
    ] = False,
    project: ProjectOption = _DEFAULT_PROJECT,
    limit: Annotated[int, typer.Option(min=1, help="Places shown per kind of finding.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Make DOCUMENTS searchable under a name. Again, it embeds only what changed and removes what is gone."""
    from fettle.cli.progress import ProgressBars
    from fettle.cli.store import open_store
    from fettle.retrieval.documents import read_documents
    from fettle.retrieval.indexing import index_for, update_index
    from fettle.store.indexes import sizes_of
    from fettle.store.keys import ensure_project

    store = open_store()
    with store.writing() as connection:
        project_id = ensure_project(connection, project).id
    chosen = _embedder(store, project_id, name, embedder, embedder_url)
    read = read_documents(documents)
    made = index_for(
        store,
        project_id,
        name,
        embedder=chosen,
        passages=_passages(store, project_id, name, passage_tokens, overlap_tokens),
        is_rebuilt=rebuild,
    )
    with ProgressBars(Console(stderr=as_json)) as bars:
        update = update_index(store, made, read, embedder=chosen, listener=bars)
    with store.reading() as connection:
        sizes = sizes_of(connection, update.index.id)
    if as_json:
        typer.echo(json.dumps(_as_json(update, sizes), ensure_ascii=False, indent=1))
    else:
        _print(update, sizes, project=project, limit=limit)


def _embedder(store: Store, project_id: str, name: str, chosen: str | None, url: str | None) -> PassageEmbedder:
    """The one that was chosen; else that of the index; else the packaged one."""
    from fettle.retrieval.embedders.registry import DEFAULT_EMBEDDER, embedder_by_name, endpoint_name
    from fettle.store.indexes import find_named_index

    if url is not None:
        if chosen is None:
            raise ConfigError(
                "the endpoint needs the name of a model",
                where="--embedder-url",
                remedy="name one of its models for embeddings with --embedder",
            )
        return embedder_by_name(endpoint_name(url, chosen))
    with store.reading() as connection:
        found = find_named_index(connection, project_id, name)
    return embedder_by_name(chosen or (found.embedder if found else DEFAULT_EMBEDDER))


def _passages(
    store: Store, project_id: str, name: str, tokens: int | None, overlap: int | None
) -> PassageSettings | None:
    """The sizes that were chosen, what was left out as it is in the index, else by default; None: nothing was chosen."""
    from fettle.retrieval.records import PassageSettings
    from fettle.retrieval.stored import passage_settings
    from fettle.store.indexes import find_named_index

    given = {field: size for field, size in (("max_tokens", tokens), ("overlap_tokens", overlap)) if size is not None}
    if not given:
        return None
    with store.reading() as connection:
        found = find_named_index(connection, project_id, name)
    return dataclasses.replace(passage_settings(found) if found else PassageSettings(), **given)


def _as_json(update: IndexUpdate, sizes: Sizes) -> dict[str, object]:
    return {
        "id": update.index.id,
        "name": update.index.name,
        "generation": update.index.generation,
        "embedder": update.index.embedder,
        "num_documents": sizes.num_documents,
        "num_passages": sizes.num_passages,
        "num_added": update.num_added,
        "num_changed": update.num_changed,
        "num_removed": update.num_removed,
        "num_unchanged": update.num_unchanged,
        "num_unread": update.num_unread,
        "num_texts_embedded": update.num_texts_embedded,
        "findings": [dataclasses.asdict(finding) for finding in update.findings],
    }


def _print(update: IndexUpdate, sizes: Sizes, *, project: str, limit: int) -> None:
    console = Console()
    parts = {
        "added": update.num_added,
        "changed": update.num_changed,
        "removed": update.num_removed,
        "unchanged": update.num_unchanged,
        "kept as they were": update.num_unread,
    }
    if update.findings:
        print_findings(console, update.findings, limit=limit, names_files=True)
    documents = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count) or "none"
    of_project = "" if project == _DEFAULT_PROJECT else f" --project {shlex.quote(project)}"
    lines = [
        f"Index {update.index.name or update.index.id}: {sizes.num_documents:,} documents, {sizes.num_passages:,} passages",
        f"Documents: {documents}",
        f"Embedded now: {update.num_texts_embedded:,} texts, with {update.index.embedder}",
        f'Search it: fettle search {shlex.quote(update.index.name or update.index.id)} "a question"{of_project}',
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
