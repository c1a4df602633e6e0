"""Files that were attached to indexes are read, cut, embedded and made searchable, many of one index at a time.

A file is in progress in the store until it can be found. Whoever is killed meanwhile leaves it in progress, and the next one goes
on: what was embedded is kept. A file that ends its worker again and again fails.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from fettle.errors import BusyError, ConfigError, FettleError, ModelError
from fettle.progress import Listener, SilentListener, Stage
from fettle.records import Action, Finding
from fettle.retrieval.attached_document import UnusableFileError, document_of_file
from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.indexing import publish_staged, require_same
from fettle.retrieval.staging import Staged, joined, stage_documents
from fettle.retrieval.vectors import embed_missing
from fettle.store.attached_files import (
    FileFailure,
    IndexedFile,
    begin_file,
    end_file,
    forget_attempts,
    indexes_with_waiting_files,
    waiting_files,
)
from fettle.store.database import Store
from fettle.store.files import NoSuchFileError, content_of, find_file
from fettle.store.indexes import (
    ChangedMeanwhileError,
    DocumentStatus,
    StoredIndex,
    hold_index,
    list_all_indexes,
    remove_documents,
)
from fettle.store.locks import alone_in_store

_logger = logging.getLogger("fettle.worker")
_FILES_AT_ONCE = 100
"""Of one index; then they can be found, and the next ones are begun."""
_MOST_ATTEMPTS = 5
_AGAIN = "nothing: it goes on by itself"


class _StoppedError(Exception):
    """This process is to end."""


class StopsWhenAsked(SilentListener):
    """Stops what is being done at the next stage; what was done until then is kept.

    Args:
        stops: Is set when this process is to end.
    """

    def __init__(self, stops: threading.Event) -> None:
        self._stops = stops

    def on_stage(self, stage: Stage) -> None:
        """A good moment to stop.

        Raises:
            _StoppedError: It is time.
        """
        if self._stops.is_set():
            raise _StoppedError(stage.name)


class TakingIn:
    """Takes in what was attached, index after index.

    Args:
        store: Where it is.
        embedder_named: Loads an embedder.
        listener: Told of every file and of passages that were embedded; what it raises is raised.
    """

    def __init__(self, store: Store, embedder_named: Callable[[str], PassageEmbedder], listener: Listener) -> None:
        self._store, self._embedder_named, self._listener = store, embedder_named, listener
        self._embedders: dict[str, PassageEmbedder] = {}
        self._turns: dict[str, None] = {}  # ids of indexes, the one whose turn was last behind the others

    def do_next(self) -> bool:
        """Take in some files of one index; False: none wait, or others take them in.

        Indexes take turns, so that thousands of files of one make nobody else's wait until they are all read.

        Raises:
            FettleError: Something does not answer for now; the files still wait.
        """
        with self._store.reading() as connection:
            waiting = indexes_with_waiting_files(connection)
            indexes = {index.id: index for index in list_all_indexes(connection)}
        self._turns = {index_id: None for index_id in self._turns if index_id in indexes}
        last_turn = {index_id: place for place, index_id in enumerate(self._turns)}
        in_turn = sorted(waiting, key=lambda index_id: last_turn.get(index_id, -1))  # else whose file waits longest
        for index in (indexes[index_id] for index_id in in_turn if index_id in indexes):
            self._turns.pop(index.id, None)
            self._turns[index.id] = None
            try:
                with alone_in_store(self._store, index.id, doing="changing this index", remedy=_AGAIN):
                    self._take_in(index)
            except (BusyError, ChangedMeanwhileError):
                continue
            except _StoppedError:
                return False
            return True
        return False

    def _take_in(self, index: StoredIndex) -> None:
        with self._store.reading() as connection:
            files = waiting_files(connection, index.id, _FILES_AT_ONCE)
            present = next((one for one in list_all_indexes(connection) if one.id == index.id), None)
        if present is None:  # deleted meanwhile
            return
        index = present
        try:
            embedder = self._embedder(index)
        except (ConfigError, ModelError) as error:
            _logger.error("vector store %s: %s", index.id, error.describe())
            message = "The embedder of this vector store is another one by now, or cannot be loaded on this server."
            for file in files:
                self._fail(file, FileFailure(code="server_error", message=message))
            return
        staged = [one for file in files if (one := self._stage(index, file, embedder)) is not None]
        if staged:
            embed_missing(self._store, index, embedder, self._listener)
            publish_staged(self._store, index, index, joined(staged), self._listener)

    def _embedder(self, index: StoredIndex) -> PassageEmbedder:
        if index.embedder not in self._embedders:
            self._embedders[index.embedder] = self._embedder_named(index.embedder)
        embedder = self._embedders[index.embedder]
        require_same(index, embedder, None)
        return embedder

    def _stage(self, index: StoredIndex, file: IndexedFile, embedder: PassageEmbedder) -> Staged | None:
        """Read a file and have its passages in the store; None: it has failed, or waits no longer."""
        self._listener.on_stage(Stage(name=file.source, num_done=0, num_total=1))
        with self._store.writing() as connection:
            num_attempts = begin_file(connection, file)
        if num_attempts is None:
            return None
        if num_attempts > _MOST_ATTEMPTS:
            message = f"The worker ended {_MOST_ATTEMPTS} times while it read this file. Make it smaller, or divide it."
            return self._fail(file, FileFailure(code="server_error", message=message))
        try:
            with self._store.reading() as connection:
                kept = find_file(connection, index.project_id, file.id)
            document, findings = document_of_file(
                content_of(self._store, kept), document_id=file.id, filename=file.source, attributes=file.attributes
            )
            _tell(index, file, findings)
            staged = stage_documents(
                self._store,
                index,
                [document],
                embedder=embedder,
                listener=self._listener,
                file_id=file.id,
                waiting_number=file.number,
            )
            with self._store.writing() as connection:
                forget_attempts(connection, index.id, file.id)
            return None if not staged.is_change or self._was_deleted_meanwhile(index, file, staged) else staged
        except (NoSuchFileError, FileNotFoundError):
            failure = FileFailure(code="invalid_file", message="The file was deleted before it was read.")
            return self._fail(file, failure)
        except UnusableFileError as error:
            return self._fail(file, FileFailure(code=error.code, message=error.message))
        except (FettleError, _StoppedError):
            raise
        except Exception:
            _logger.exception("file %s: a fault of ours", file.id)
            failure = FileFailure(code="server_error", message="The file could not be read because of an error here.")
            return self._fail(file, failure)

    def _was_deleted_meanwhile(self, index: StoredIndex, file: IndexedFile, staged: Staged) -> bool:
        """Whether a file is gone that was read just now; what was made of it goes as well. From here on deleting it finds that."""
        with self._store.writing() as connection:
            hold_index(connection, index.id)
            try:
                find_file(connection, index.project_id, file.id)
            except NoSuchFileError:
                remove_documents(connection, staged.added | staged.changed)
                return True
        return False

    def _fail(self, file: IndexedFile, failure: FileFailure) -> None:
        with self._store.writing() as connection:
            end_file(connection, file, DocumentStatus.FAILED, failure)


def _tell(index: StoredIndex, file: IndexedFile, findings: Sequence[Finding]) -> None:
    """Say in the log what of a file cannot be found though the file can: OpenAI's form of a completed file has no room for it."""
    left_out = [finding for finding in findings if finding.action is Action.LEFT_OUT]
    if not left_out:
        return
    first, *others = left_out
    place = file.source if first.line is None else f"{file.source}:{first.line}"
    more = f" (and {len(others):,} finding{'s' if len(others) > 1 else ''} more)" if others else ""
    _logger.warning(
        "vector store %s, file %s, left out: %r: %s; to do: %s%s",
        index.id, file.id, place, first.message, first.remedy, more,
    )  # fmt: skip
