"""The documents of a study: brought up to date in an index of the store, and searched in the ways that the study wants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from fettle.errors import ConfigError
from fettle.progress import Listener
from fettle.records import Finding
from fettle.retrieval.documents import read_documents
from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.embedders.registry import DEFAULT_EMBEDDER, embedder_by_name
from fettle.retrieval.index import PassageIndex
from fettle.retrieval.indexes.registry import open_index
from fettle.retrieval.indexing import index_for, make_searchable, update_index
from fettle.retrieval.lookup import KeptLookup
from fettle.retrieval.records import SearchMethod
from fettle.retrieval.reranker import Reranker
from fettle.retrieval.rerankers.registry import reranker_named
from fettle.retrieval.search import IndexSearch
from fettle.retrieval.stored import StoredPassages
from fettle.store.indexes import find_named_index
from fettle.store.keys import DEFAULT_PROJECT, ensure_project
from fettle.store.opening import open_store

if TYPE_CHECKING:
    from fettle.study.settings import DocumentSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDocuments:
    """An index that is ready to be searched."""

    settings: DocumentSettings
    index: PassageIndex
    lookup: KeptLookup
    """Its passages by their documents."""
    embedder: PassageEmbedder
    findings: tuple[Finding, ...] = ()

    @property
    def sha256(self) -> str:
        """Of what can be found."""
        return self.index.description.sha256

    def retriever(
        self, *, method: SearchMethod | None = None, reranker: str | None = None, num_passages: int | None = None
    ) -> IndexSearch:
        """A search of its own.

        Args:
            method: None: as the user chose, as the reranker is then.
            reranker: None: there is none.
            num_passages: None: as the user chose.
        """
        chosen = self.settings.search
        if method is not None:
            chosen = replace(chosen, method=method, reranker=reranker)
        if num_passages is not None:
            chosen = replace(chosen, num_passages=num_passages)
        found = None if chosen.reranker is None else _reranker(chosen.reranker)
        return IndexSearch(self.index, self.embedder, chosen, reranker=found)


@lru_cache(maxsize=2)
def _reranker(name: str) -> Reranker:
    """One for all searches of a study: it remembers what it has read."""
    return reranker_named(name)


def study_documents(settings: DocumentSettings, listener: Listener) -> StudyDocuments:
    """The documents, searchable: an index of this name, or one that is made and brought up to date from a place.

    Raises:
        ConfigError: There is no such index, or the place has no documents.
        FettleError: It cannot be read, or the embedder cannot be loaded.
    """
    store = open_store()
    with store.writing() as connection:
        project_id = ensure_project(connection, DEFAULT_PROJECT).id
    findings: tuple[Finding, ...] = ()
    if settings.place is not None:
        embedder = embedder_by_name(settings.embedder or DEFAULT_EMBEDDER)
        index = index_for(store, project_id, settings.place, embedder=embedder, passages=settings.passages)
        updated = update_index(store, index, read_documents(settings.place), embedder=embedder, listener=listener)
        index, findings = updated.index, updated.findings
    else:
        assert settings.index is not None, "one of the two is given"
        with store.reading() as connection:
            found = find_named_index(connection, project_id, settings.index)
        if found is None:
            raise ConfigError(
                f"there is no index called {settings.index!r}",
                where="--index",
                remedy="make it with `fettle index DOCUMENTS --name NAME`, or give --documents",
            )
        index, embedder = found, embedder_by_name(found.embedder)
        make_searchable(store, index, listener)
    opened = open_index(store, index)
    if not opened.description.num_passages:
        raise ConfigError("the documents hold no passage", where=settings.described, remedy="name another place")
    lookup = KeptLookup(StoredPassages(store, index.id))
    return StudyDocuments(settings=settings, index=opened, lookup=lookup, embedder=embedder, findings=findings)
