"""What was read is compared with what is in the index: changed documents are put beside it, cut, and found by nobody yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fettle.progress import Listener, Stage
from fettle.records import Action, Finding, Severity
from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.passages import cut
from fettle.retrieval.records import AttributeValue, Document, Passage
from fettle.retrieval.stored import as_new, passage_settings, storable
from fettle.store.database import Store
from fettle.store.indexes import (
    DocumentStatus,
    NewDocument,
    StoredDocument,
    StoredIndex,
    add_document,
    hold_waiting,
    list_documents,
    remove_documents,
    replace_document,
)
from fettle.store.passages import add_passages

_PASSAGES_AT_ONCE = 2000  # in one transaction
_STAGE = "read documents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What will be found, by the numbers of documents."""

    added: frozenset[int]
    """In progress; there was none of their ids."""
    changed: frozenset[int]
    """In progress, in place of another one."""
    unchanged: frozenset[int]
    unread: frozenset[int]
    """Their files could not be read this time; what was read before stays."""
    elsewhere: frozenset[int]
    """From files attached over the API where a folder was read, and the other way round."""
    replaced: frozenset[int]
    removed: frozenset[int]
    ids: frozenset[str]
    """Of all documents that were read."""
    findings: tuple[Finding, ...]

    @property
    def is_change(self) -> bool:
        """Whether anything will be found that is not now, or the other way round."""
        return bool(self.added or self.changed or self.removed)

    @property
    def documents(self) -> frozenset[int]:
        """All that will be found."""
        return self.added | self.changed | self.unchanged | self.unread | self.elsewhere


def joined(parts: Sequence[Staged]) -> Staged:
    """What was staged of several places one after the other, to be found all at once."""
    added = frozenset[int]().union(*(part.added for part in parts))
    changed = frozenset[int]().union(*(part.changed for part in parts))
    replaced = frozenset[int]().union(*(part.replaced for part in parts))
    removed = frozenset[int]().union(*(part.removed for part in parts))
    found = frozenset[int]().union(*(part.documents for part in parts))
    return Staged(
        added=added,
        changed=changed,
        unchanged=found - added - changed - replaced - removed,
        unread=frozenset(),
        elsewhere=frozenset(),
        replaced=replaced,
        removed=removed,
        ids=frozenset[str]().union(*(part.ids for part in parts)),
        findings=tuple(finding for part in parts for finding in part.findings),
    )


def stage_documents(
    store: Store,
    index: StoredIndex,
    read: Iterable[Document | Finding],
    *,
    embedder: PassageEmbedder,
    listener: Listener,
    file_id: str | None,
    waiting_number: int | None = None,
) -> Staged:
    """Put documents that are new or changed beside those that can be found, with their passages, in transactions of their own.

    Args:
        store: Where the index is.
        index: That nobody else changes meanwhile.
        read: All documents of the place, and what was noticed on the way. Where this raises, nothing is removed.
        embedder: Counts tokens.
        listener: Told of every document.
        file_id: The attached file that they come from; None: a folder. Documents that come from elsewhere are left alone.
        waiting_number: Of the document that waits for what was read. It keeps the attributes that it has by now; where it waits no
            longer, since it was cancelled or taken out meanwhile, nothing is put in its place. None: new documents are added.
    """
    staging = _Staging(store, index, embedder, file_id, waiting_number)
    num_read = 0
    for item in read:
        if isinstance(item, Finding):
            staging.findings.append(item)
            continue
        staging.add(item)
        num_read += 1
        listener.on_stage(Stage(name=_STAGE, num_done=num_read, num_total=max(num_read + 1, staging.num_known)))
    staged = staging.finish()
    listener.on_stage(Stage(name=_STAGE, num_done=num_read, num_total=num_read))
    return staged


class _Staging:
    def __init__(
        self,
        store: Store,
        index: StoredIndex,
        embedder: PassageEmbedder,
        file_id: str | None,
        waiting_number: int | None,
    ) -> None:
        self._store, self._index, self._embedder, self._file_id = store, index, embedder, file_id
        self._waiting_number = waiting_number
        self._settings = passage_settings(index)
        with store.reading() as connection:
            known = list_documents(connection, index.id)
        self._found = {one.document_id: one for one in known if one.status is DocumentStatus.COMPLETED}
        self._begun = {one.document_id: one for one in known if one.status is DocumentStatus.IN_PROGRESS}
        self._waiting: list[tuple[Document, tuple[Passage, ...]]] = []
        self._num_waiting = 0
        self._numbers: dict[str, int] = {}  # of documents in progress, by their ids
        self._unchanged: set[str] = set()
        self._seen: set[str] = set()
        self.num_known = len(known)
        self.findings: list[Finding] = []

    def add(self, read: Document) -> None:
        """Leave it, take up what was begun before, or cut it."""
        document_id = storable(read.id)
        if problem := self._problem_of(document_id):
            self.findings.append(_left_out(read, problem))
            return
        self._seen.add(document_id)
        found, begun = self._found.get(document_id), self._begun.get(document_id)
        if found is not None and found.sha256 == read.sha256:
            self._unchanged.add(document_id)
        elif begun is not None and (begun.sha256, begun.file_id) == (read.sha256, self._file_id):
            self._numbers[document_id] = begun.number
        else:
            passages = cut(read, self._settings, self._embedder.count_tokens)
            self._waiting.append((read, passages))
            self._num_waiting += len(passages) + 1
            if self._num_waiting >= _PASSAGES_AT_ONCE:
                self._write()

    def finish(self) -> Staged:
        """What it all comes to."""
        self._write()
        ours = [one for one in self._found.values() if one.file_id == self._file_id]
        missing = [one for one in ours if one.document_id not in self._seen]
        files = unread_files(missing, self.findings)
        unread = frozenset(files)
        self._forget_begun()
        self.findings += [_kept_as_it_was(file) for file in sorted(set(files.values()))]
        changed = {document_id for document_id in self._numbers if document_id in self._found}
        return Staged(
            added=frozenset(self._numbers[document_id] for document_id in self._numbers.keys() - changed),
            changed=frozenset(self._numbers[document_id] for document_id in changed),
            unchanged=frozenset(self._found[document_id].number for document_id in self._unchanged),
            unread=unread,
            elsewhere=frozenset(one.number for one in self._found.values() if one.file_id != self._file_id),
            replaced=frozenset(self._found[document_id].number for document_id in changed),
            removed=frozenset(one.number for one in missing) - unread,
            ids=frozenset(self._seen),
            findings=tuple(self.findings),
        )

    def _problem_of(self, document_id: str) -> str | None:
        if document_id in self._seen:
            return "another document has the same id"
        found = self._found.get(document_id)
        if found is not None and found.file_id != self._file_id:
            return f"a document of {'a folder' if found.file_id is None else found.file_id} has the same id"
        return None

    def _write(self) -> None:
        """Have what was cut in the store, all or nothing."""
        with self._store.writing() as connection:
            for read, passages in self._waiting:
                document = _as_new(read, self._file_id)
                if self._waiting_number is not None:
                    self._begun.pop(document.document_id, None)
                    waits = hold_waiting(connection, self._index.id, self._waiting_number)
                    if waits is None:
                        continue
                    number = self._waiting_number
                    replace_document(connection, number, replace(document, attributes=waits.attributes))
                elif (begun := self._begun.pop(document.document_id, None)) is None:
                    number = add_document(connection, self._index.id, document)
                else:
                    number = begun.number
                    replace_document(connection, number, document)
                add_passages(connection, self._index.id, number, [as_new(passage) for passage in passages])
                self._numbers[document.document_id] = number
        self._waiting, self._num_waiting = [], 0

    def _forget_begun(self) -> None:
        """Delete what an interrupted run had begun, and the place has no longer."""
        kept = set(self._numbers.values())
        left_over = [
            one.number for one in self._begun.values() if one.file_id == self._file_id and one.number not in kept
        ]
        with self._store.writing() as connection:
            remove_documents(connection, left_over)


def unread_files(documents: Iterable[StoredDocument], findings: Iterable[Finding]) -> dict[int, str]:
    """The files of documents that are there and could not be read, or not all of it, by the documents' numbers.

    Args:
        documents: That were not read this time.
        findings: An error that left something out names a folder with a `/` at its end, a file, or a row of it.
    """
    unread = {
        one.file if one.line is None else f"{one.file}:{one.line}"
        for one in findings
        if (one.severity, one.action) == (Severity.ERROR, Action.LEFT_OUT)
    }
    folders = tuple(sorted(name for name in unread if name.endswith("/")))
    found: dict[int, str] = {}
    for document in documents:
        file, _, row = document.source.rpartition(":")
        file = file if row.isdigit() else document.source
        if document.source in unread or file in unread:
            found[document.number] = file
        elif folder := next((folder for folder in folders if document.source.startswith(folder)), None):
            found[document.number] = folder
    return found


def _as_new(read: Document, file_id: str | None) -> NewDocument:
    attributes: Mapping[str, AttributeValue] = {
        storable(name): storable(value) if isinstance(value, str) else value for name, value in read.attributes.items()
    }
    return NewDocument(
        document_id=storable(read.id),
        source=storable(read.source),
        title=storable(read.title),
        sha256=read.sha256,
        attributes=attributes,
        num_bytes=sum(len(storable(section.text).encode()) for section in read.sections),
        file_id=file_id,
    )


def _left_out(read: Document, problem: str) -> Finding:
    return Finding(
        code="same-id",
        severity=Severity.ERROR,
        action=Action.LEFT_OUT,
        message=f"{problem} ({read.id!r})",
        remedy="give each document an id of its own",
        file=read.source,
    )


def _kept_as_it_was(file: str) -> Finding:
    return Finding(
        code="kept-as-it-was",
        severity=Severity.WARNING,
        action=Action.KEPT,
        message="what was read before is still found, for the file could not be read this time",
        remedy="mend the file, or delete it, and run the same command again",
        file=file,
    )
