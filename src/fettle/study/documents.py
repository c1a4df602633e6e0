"""The documents of a study: brought up to date in an index of the store, and searched in the ways that the study wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import ConfigError, StudyConflictError
from fettle.progress import Listener
from fettle.records import Finding
from fettle.retrieval.documents import read_documents
from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.embedders.registry import DEFAULT_EMBEDDER, embedder_by_name
from fettle.retrieval.filters import Filter
from fettle.retrieval.index import PassageIndex
from fettle.retrieval.indexes.registry import open_index
from fettle.retrieval.indexing import index_for, make_searchable, update_index
from fettle.retrieval.lookup import KeptLookup
from fettle.retrieval.records import Found, SearchMethod
from fettle.retrieval.search import IndexSearch
from fettle.retrieval.stored import StoredPassages
from fettle.retrieval.vectors import require_same_vectors
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex, find_index, find_named_index
from fettle.store.keys import ensure_project
from fettle.store.opening import open_store

if TYPE_CHECKING:
    from fettle.study.settings import DocumentSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDocuments:
    """An index that is ready to be searched."""

    settings: DocumentSettings
    store: Store
    stored: StoredIndex
    """The index as it was when the study began."""
    index: PassageIndex
    lookup: KeptLookup
    """Its passages by their documents."""
    embedder: PassageEmbedder
    findings: tuple[Finding, ...] = ()

    def require_unchanged(self) -> None:
        """See that the index is the one that the study began with.

        Raises:
            StudyConflictError: It was changed meanwhile.
            NoSuchIndexError: It was deleted.
        """
        with self.store.reading() as connection:
            found = find_index(connection, self.stored.project_id, self.stored.id)
        if found.generation != self.stored.generation:
            raise StudyConflictError(
                "the index was changed while the study ran, so its contenders would answer from other documents than they were "
                "trained and chosen with",
                where=self.settings.described,
                remedy="run the same command again, and leave the index and its documents alone meanwhile",
            )

    def retriever(
        self,
        *,
        method: SearchMethod | None = None,
        reranker: str | None = None,
        num_passages: int | None = None,
        is_bounded: bool = True,
    ) -> SteadySearch:
        """A search of its own, which refuses to find anything once the index has changed.

        Args:
            method: None: as the user chose, as the reranker is then.
            reranker: None: there is none.
            num_passages: None: as the user chose.
            is_bounded: Whether passages stop at the user's budget of tokens; not where the ranking itself is looked at.
        """
        chosen = self.settings.search
        if method is not None:
            chosen = replace(chosen, method=method, reranker=reranker)
        if num_passages is not None:
            chosen = replace(chosen, num_passages=num_passages)
        if not is_bounded:
            chosen = replace(chosen, max_tokens=None)
        return SteadySearch(IndexSearch(self.index, self.embedder, chosen), self.require_unchanged)


class SteadySearch:
    """A search whose index must stay as it is.

    Args:
        search: What searches.
        require_unchanged: Raises where it did not; asked after each search, before anybody sees what was found.
    """

    def __init__(self, search: IndexSearch, require_unchanged: Callable[[], None]) -> None:
        self._search, self._require_unchanged = search, require_unchanged

    def search(self, question: str, *, where: Filter | None = None) -> tuple[Found, ...]:
        """As the search itself.

        Raises:
            StudyConflictError: The index was changed.
        """
        found = self._search.search(question, where=where)
        self._require_unchanged()
        return found

    def search_all(self, questions: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        """As the search itself.

        Raises:
            StudyConflictError: The index was changed.
        """
        found = self._search.search_all(questions)
        self._require_unchanged()
        return found

    def describe(self) -> str:
        """As the search itself."""
        return self._search.describe()

    def identity(self) -> str:
        """As the search itself."""
        return self._search.identity()


def study_documents(settings: DocumentSettings, project: str, listener: Listener) -> StudyDocuments:
    """The documents, searchable: an index of this name, or one that is made and brought up to date from a place.

    Args:
        settings: Which documents.
        project: The name of the project whose index it is; made where there is none.
        listener: Is told how far the indexing is.

    Raises:
        ConfigError: There is no such index, or the place has no documents.
        FettleError: It cannot be read, or the embedder cannot be loaded.
    """
    store = open_store()
    with store.writing() as connection:
        project_id = ensure_project(connection, project).id
    findings: tuple[Finding, ...] = ()
    if settings.place is not None:
        embedder = embedder_by_name(settings.embedder or DEFAULT_EMBEDDER)
        read = read_documents(settings.place)
        index = index_for(store, project_id, _name_of(settings), embedder=embedder, passages=settings.passages)
        updated = update_index(store, index, read, embedder=embedder, listener=listener)
        index, findings = updated.index, updated.findings
    else:
        assert settings.index is not None, "one of the two is given"
        with store.reading() as connection:
            found = find_named_index(connection, project_id, settings.index)
        if found is None:
            raise ConfigError(
                f"there is no index called {settings.index!r} in the project {project!r}",
                where="--index",
                remedy="make it with `fettle index DOCUMENTS --name NAME`, name its --project, or give --documents",
            )
        index, embedder = found, embedder_by_name(found.embedder)
        make_searchable(store, index, listener)
    opened = open_index(store, index)
    if not opened.description.num_passages:
        raise ConfigError("the documents hold no passage", where=settings.described, remedy="name another place")
    require_same_vectors(store, index, embedder)
    return StudyDocuments(
        settings=settings,
        store=store,
        stored=index,
        index=opened,
        lookup=KeptLookup(StoredPassages(store, index.id)),
        embedder=embedder,
        findings=findings,
    )


def _name_of(settings: DocumentSettings) -> str:
    """What the index of a place is called: never as one that somebody has named, and another one where it is made otherwise."""
    place = settings.place or ""
    resolved = place if "://" in place or "::" in place else str(Path(place).resolve())
    made = [] if settings.embedder is None else [settings.embedder]
    if settings.passages is not None:
        made.append(f"{settings.passages.max_tokens}/{settings.passages.overlap_tokens} tokens")
    return f"study of {resolved}" + (f" ({', '.join(made)})" if made else "")
