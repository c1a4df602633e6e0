"""An index is made, and brought up to date: only what changed is cut and embedded, and what is gone is removed.

Four steps, each of which a kill may interrupt; the same call goes on from there.

1. Documents that are new or changed are cut and put beside what can be found, in progress (`staging`).
2. Texts without a vector are embedded, in batches that are kept (`vectors`).
3. What the next generation is searched with is made (`backend`).
4. The next generation is published: in one transaction new documents can be found, and old ones are deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fettle.errors import ConfigError, ResourceError
from fettle.progress import Listener
from fettle.records import Finding
from fettle.retrieval.backend import Generation
from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.indexes.registry import backend_named, backend_of
from fettle.retrieval.passages import MIN_TOKENS
from fettle.retrieval.records import Document, PassageSettings
from fettle.retrieval.staging import Staged, stage_documents, unread_files
from fettle.retrieval.stored import passage_settings
from fettle.retrieval.vectors import embed_missing, require_same_vectors
from fettle.store.database import Store, now
from fettle.store.indexes import (
    DocumentStatus,
    StoredDocument,
    StoredIndex,
    add_index,
    change_index,
    find_index,
    find_named_index,
    find_replacement,
    list_documents,
    new_index_id,
    publish,
    remove_index,
    take_place,
)
from fettle.store.locks import alone_in_store

_REMEDY_WHILE_BUSY = "wait until it is done, and run the same command again"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUpdate:
    """What was done, in numbers of documents unless the name says otherwise."""

    index: StoredIndex
    num_added: int
    num_changed: int
    num_removed: int
    num_unchanged: int
    num_unread: int
    """Cannot be read now, and are found as they were."""
    num_texts_embedded: int
    """Of passages that are equal one counts."""
    findings: tuple[Finding, ...]


def new_index(
    store: Store,
    project_id: str,
    *,
    embedder: PassageEmbedder,
    passages: PassageSettings,
    name: str | None,
    expires_after_days: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> StoredIndex:
    """An index with nothing in it, to be added to the store; whether the sizes can be, the caller has seen."""
    return StoredIndex(
        id=new_index_id(),
        project_id=project_id,
        name=name,
        backend=backend_of(store),
        embedder=embedder.name,
        embedder_revision=embedder.revision,
        num_dimensions=embedder.num_dimensions,
        passage_tokens=passages.max_tokens,
        overlap_tokens=passages.overlap_tokens,
        created_at=now(),
        last_active_at=now(),
        expires_after_days=expires_after_days,
        metadata=metadata,
    )


def index_for(
    store: Store,
    project_id: str,
    name: str,
    *,
    embedder: PassageEmbedder,
    passages: PassageSettings | None = None,
    is_rebuilt: bool = False,
) -> StoredIndex:
    """The index of this name, made where there is none; to be filled by `update_index`.

    Args:
        store: Where it is.
        project_id: Whose it is.
        name: Or its id.
        embedder: What it is, or shall be, made with.
        passages: How documents are cut; None: as they are in this index, or by default.
        is_rebuilt: Whether all documents shall be cut and embedded anew, with these settings. Until then it is searched as it is.

    Raises:
        BusyError: Another process makes the index, or changes one that is to be rebuilt.
        ConfigError: The index was made with another embedder or other settings, or they are impossible; or the name is blank.
    """
    if not name.strip():
        raise ConfigError("an index needs a name", where="--name", remedy="say how it is to be called: --name handbook")
    with alone_in_store(store, f"{project_id}/{name}", doing="making this index", remedy=_REMEDY_WHILE_BUSY):
        with store.reading() as connection:
            index = find_named_index(connection, project_id, name)
        if index is None:
            index = _possible(store, project_id, name, embedder, passages or PassageSettings())
            with store.writing() as connection:
                add_index(connection, index)
            return index
        if not is_rebuilt:
            require_same(index, embedder, passages)
            return index
        settings = passages or passage_settings(index)
        made = replace(_possible(store, project_id, None, embedder, settings), replaces=index.id)
        with alone_in_store(store, index.id, doing="changing this index", remedy=_REMEDY_WHILE_BUSY):
            return _replacement(store, index, made)


def update_index(
    store: Store,
    index: StoredIndex,
    documents: Iterable[Document | Finding],
    *,
    embedder: PassageEmbedder,
    listener: Listener,
    file_id: str | None = None,
) -> IndexUpdate:
    """Bring an index up to date with all documents of a place.

    Args:
        store: Where the index is.
        index: By `index_for`, or found in the store.
        documents: All documents of the place, and what was noticed while they were read. Where this raises, nothing is removed.
        embedder: What the index was made with.
        listener: Told of documents that were read and passages that were embedded.
        file_id: The attached file that is read; None: a folder. Documents of the index that come from elsewhere stay.

    Raises:
        BusyError: Another process changes the index.
        ConfigError: The embedder is another one, or a place has become empty, or all of an index is made anew and something that is
            in it cannot be read.
        ChangedMeanwhileError: The index was deleted meanwhile.
    """
    require_same(index, embedder)
    goal_id = index.replaces or index.id
    with alone_in_store(store, goal_id, doing="changing this index", remedy=_REMEDY_WHILE_BUSY):
        index = _where_it_is_now(store, index, embedder)
        with store.reading() as connection:
            goal = find_index(connection, index.project_id, goal_id)
            known = list_documents(connection, goal_id, status=DocumentStatus.COMPLETED) if index.replaces else ()
        staged = stage_documents(store, index, documents, embedder=embedder, listener=listener, file_id=file_id)
        _require_something(staged, goal, file_id)
        _require_all_read(staged, goal, known)
        num_embedded = embed_missing(store, index, embedder, listener)
        goal = publish_staged(store, goal, index, staged, listener)
    return IndexUpdate(
        index=goal,
        num_added=len(staged.added),
        num_changed=len(staged.changed),
        num_removed=len(staged.removed),
        num_unchanged=len(staged.unchanged),
        num_unread=len(staged.unread),
        num_texts_embedded=num_embedded,
        findings=staged.findings,
    )


def make_searchable(store: Store, index: StoredIndex, listener: Listener) -> None:
    """Make what the present generation of an index is searched with, where it is not there: after a restore, or on another machine.

    Raises:
        BusyError: Another process changes the index.
    """
    backend = backend_named(index.backend)
    if backend.is_prepared(store, index):
        return
    with alone_in_store(store, index.id, doing="changing this index", remedy=_REMEDY_WHILE_BUSY):
        with store.reading() as connection:
            index = find_index(connection, index.project_id, index.id)
            found = list_documents(connection, index.id, status=DocumentStatus.COMPLETED)
        if not backend.is_prepared(store, index):
            numbers = frozenset(document.number for document in found)
            generation = Generation(store, index, number=index.generation, kept_as=index, documents=numbers)
            backend.prepare(generation, listener)


def delete_index(store: Store, index: StoredIndex) -> None:
    """Delete an index with all that is in it, and what it is searched with.

    Raises:
        BusyError: Another process changes the index.
    """
    with alone_in_store(store, index.id, doing="changing this index", remedy=_REMEDY_WHILE_BUSY):
        with store.writing() as connection:
            remove_index(connection, index.id)
        backend_named(index.backend).discard(store, index.id, keep=None)


def require_same(index: StoredIndex, embedder: PassageEmbedder, passages: PassageSettings | None = None) -> None:
    """Refuse an embedder or settings that are not those of the index.

    Raises:
        ConfigError: Says what the index was made with, what came, and what to do.
    """
    made_with = {
        "revision of the embedder": (index.embedder_revision, embedder.revision),
        "dimensions": (index.num_dimensions, embedder.num_dimensions),
    }
    if passages is not None:
        made_with["passage tokens"] = (index.passage_tokens, passages.max_tokens)
        made_with["overlap tokens"] = (index.overlap_tokens, passages.overlap_tokens)
    differing = {what: pair for what, pair in made_with.items() if pair[0] != pair[1]}
    if differing:
        was, came = (", ".join(f"{what} {pair[side]}" for what, pair in differing.items()) for side in (0, 1))
        raise ConfigError(
            f"the index was made with {was} (embedder {index.embedder}), and now it is {came} (embedder {embedder.name}): "
            "the two cannot be mixed",
            where=index.name or index.id,
            remedy="leave these options out, choose another --name, or make all of it anew with --rebuild",
        )


def publish_staged(
    store: Store, goal: StoredIndex, kept_as: StoredIndex, staged: Staged, listener: Listener
) -> StoredIndex:
    """Let what was staged and embedded be found; the index as it is then.

    Args:
        store: Where the index is.
        goal: The index, that nobody else changes meanwhile.
        kept_as: The index under whose id the passages are: `goal`, or one that is made in its place.
        staged: What will be found.
        listener: Told how far it is.

    Raises:
        ChangedMeanwhileError: The index was deleted meanwhile.
    """
    backend = backend_named(kept_as.backend)
    is_replaced = kept_as.id != goal.id
    if not staged.is_change and not is_replaced:
        if not _can_be_searched(store, goal):
            backend.prepare(_generation(store, goal, kept_as, staged, goal.generation), listener)
        backend.discard(store, goal.id, keep=goal.generation)  # of a run that was killed
        return goal
    backend.prepare(_generation(store, goal, kept_as, staged, goal.generation + 1), listener)
    with store.writing() as connection:
        if is_replaced:
            take_place(connection, kept_as, goal)
        publish(connection, goal, new=staged.added | staged.changed, gone=staged.removed | staged.replaced)
        published = find_index(connection, goal.project_id, goal.id)
    for name in {goal.backend, published.backend}:
        backend_named(name).discard(store, goal.id, keep=published.generation)
    return published


def _can_be_searched(store: Store, index: StoredIndex) -> bool:
    """Whether what an index is searched with is there and whole: who is told that it is damaged is told to index again."""
    backend = backend_named(index.backend)
    if not backend.is_prepared(store, index):
        return False
    try:
        backend.open(store, index).close()
    except ResourceError:
        return False
    return True


def _generation(store: Store, goal: StoredIndex, kept_as: StoredIndex, staged: Staged, number: int) -> Generation:
    return Generation(store, goal, number=number, kept_as=kept_as, documents=staged.documents)


def _require_something(staged: Staged, index: StoredIndex, file_id: str | None) -> None:
    """Take a place without a document for a mistake where there were some: a disk that is not mounted is an empty folder."""
    if file_id is None and staged.removed and not (staged.added or staged.changed or staged.unchanged):
        raise ConfigError(
            f"no document was found, and the index has {len(staged.removed)} that came from there: nothing was removed",
            where=index.name or index.id,
            remedy="see that the place is the right one and can be read; to have the index no longer, "
            "`fettle indexes remove`",
        )


def _require_all_read(staged: Staged, index: StoredIndex, known: Sequence[StoredDocument]) -> None:
    """Where all is made anew, refuse to lose what cannot be read this time: there is nothing that it could be made from.

    Args:
        staged: What was read.
        index: In whose place the new one is made.
        known: What is found in it; nothing where it is not made anew.
    """
    problems = unread_files(known, staged.findings)
    lost = sorted(
        {problems[one.number] for one in known if one.number in problems and one.document_id not in staged.ids}
    )
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise ConfigError(
            f"{lost[0]}{more} cannot be read this time and is in the index, which would lose it when it is made anew: "
            "nothing was changed",
            where=index.name or index.id,
            remedy="run the same command without --rebuild to see why; mend the file, or delete it, and run it again: what is "
            "embedded is kept",
        )
    if known and not staged.documents:
        raise ConfigError(
            f"no document was found, and the index has {len(known)}: nothing was changed",
            where=index.name or index.id,
            remedy="see that the place is the right one and can be read; to have the index no longer, "
            "`fettle indexes remove`",
        )


def _where_it_is_now(store: Store, index: StoredIndex, embedder: PassageEmbedder) -> StoredIndex:
    """The index with the present place of its embedder, where the same one lies in another folder or at another address by now."""
    if index.embedder == embedder.name:
        return index
    require_same_vectors(store, index, embedder)
    with store.writing() as connection:
        change_index(connection, index.id, embedder=embedder.name)
    return replace(index, embedder=embedder.name)


def _replacement(store: Store, index: StoredIndex, made: StoredIndex) -> StoredIndex:
    """An index that is made in this one's place; one that was begun with the same settings is gone on with."""
    with store.writing() as connection:
        attached = [one for one in list_documents(connection, index.id) if one.file_id is not None]
        if attached:
            raise ConfigError(
                f"{len(attached)} of its documents come from files that were attached over the API",
                where=index.name or index.id,
                remedy="make another index, and attach these files to it",
            )
        begun = find_replacement(connection, index.id)
        if begun is not None:
            if _settings_of(begun) == _settings_of(made):
                return begun
            remove_index(connection, begun.id)
        add_index(connection, made)
    return made


def _settings_of(index: StoredIndex) -> tuple[object, ...]:
    return (
        index.backend, index.embedder, index.embedder_revision, index.num_dimensions, index.passage_tokens, index.overlap_tokens
    )  # fmt: skip


def _possible(
    store: Store, project_id: str, name: str | None, embedder: PassageEmbedder, passages: PassageSettings
) -> StoredIndex:
    """A new index, of sizes that the embedder can read."""
    _require_possible(embedder, passages)
    return new_index(store, project_id, embedder=embedder, passages=passages, name=name)


def _require_possible(embedder: PassageEmbedder, passages: PassageSettings) -> None:
    if not MIN_TOKENS <= passages.max_tokens <= embedder.max_tokens:
        raise ConfigError(
            f"passages were to have {passages.max_tokens} tokens, and {embedder.name} reads {embedder.max_tokens} of a text",
            where="--passage-tokens",
            remedy=f"give {MIN_TOKENS} to {embedder.max_tokens}",
        )
    if not 0 <= 2 * passages.overlap_tokens <= passages.max_tokens:
        raise ConfigError(
            f"an overlap of {passages.overlap_tokens} tokens is more than half of a passage of {passages.max_tokens}",
            where="--overlap-tokens",
            remedy=f"give at most {passages.max_tokens // 2}",
        )
