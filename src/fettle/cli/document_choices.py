"""The options of `fettle study` about documents to answer from."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fettle.study.settings import DocumentSettings

_PANEL = "Documents"
DEFAULT_RERANKER, NO_RERANKER = "late-interaction", "none"


class SearchByOption(StrEnum):
    """How passages are looked for."""

    VECTOR = "vector"
    FULL_TEXT = "full_text"
    HYBRID = "hybrid"


DocumentsOption = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Answer from these documents too: a file, a folder or an fsspec URL. They are indexed, and again only where they "
        "have changed.",
        rich_help_panel=_PANEL,
    ),
]
IndexOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Or from an index that `fettle index` has made.", rich_help_panel=_PANEL),
]
EmbedderOption = Annotated[
    str | None,
    typer.Option(
        help="What makes the vectors of --documents: a sentence-transformers model by name or path, or openai:URL#MODEL of an "
        "endpoint; left out: the packaged one.",
        rich_help_panel=_PANEL,
    ),
]
PassageTokensOption = Annotated[
    int | None,
    typer.Option(min=16, help="Longest passage of --documents, in tokens of the embedder.", rich_help_panel=_PANEL),
]
OverlapTokensOption = Annotated[
    int | None,
    typer.Option(min=0, help="What passages of --documents repeat of the one before, tokens.", rich_help_panel=_PANEL),
]
NumPassagesOption = Annotated[
    int,
    typer.Option("--passages", min=1, max=50, help="Passages in a prompt, at most.", rich_help_panel=_PANEL),
]
PassageBudgetOption = Annotated[
    int | None,
    typer.Option(
        "--passage-budget",
        min=32,
        help="Tokens of the embedder that the passages of a prompt have together, at most; one that no longer fits whole is "
        "passed over.",
        rich_help_panel=_PANEL,
    ),
]
SearchByChoice = Annotated[
    SearchByOption,
    typer.Option("--search-by", help="Meaning, words, or both with their ranks fused.", rich_help_panel=_PANEL),
]
RerankerOption = Annotated[
    str,
    typer.Option(
        help="What looks at the passages found once more: late-interaction, which needs no further model; a cross-encoder, by "
        "name or path; or none.",
        rich_help_panel=_PANEL,
    ),
]


def document_settings(
    documents: str | None,
    index: str | None,
    *,
    embedder: str | None,
    passage_tokens: int | None,
    overlap_tokens: int | None,
    num_passages: int,
    passage_budget: int | None,
    search_by: SearchByOption,
    reranker: str,
) -> DocumentSettings | None:
    """What was chosen; None: no documents were named.

    Raises:
        ConfigError: Something is chosen about documents, and none are named; or the choices exclude each other.
    """
    from fettle.errors import ConfigError
    from fettle.retrieval.records import PassageSettings, SearchMethod, SearchSettings
    from fettle.study.settings import DocumentSettings

    search = SearchSettings(
        method=SearchMethod(search_by.value),
        num_passages=num_passages,
        max_tokens=passage_budget,
        reranker=None if reranker == NO_RERANKER else reranker,
    )
    if documents is None and index is None:
        given = (embedder, passage_tokens, overlap_tokens)
        if any(one is not None for one in given) or search != SearchSettings(reranker=DEFAULT_RERANKER):
            raise ConfigError(
                "something is chosen about documents, and none are named", remedy="give --documents or --index as well"
            )
        return None
    sizes = {"max_tokens": passage_tokens, "overlap_tokens": overlap_tokens}
    chosen = {name: size for name, size in sizes.items() if size is not None}
    return DocumentSettings(
        place=documents,
        index=index,
        embedder=embedder,
        passages=PassageSettings(**chosen) if chosen else None,
        search=search,
    )
