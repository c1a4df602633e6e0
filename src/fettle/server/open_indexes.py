"""The indexes that are searched, and the embedders that they want: opened once, kept while they are used, opened anew once they
have changed. From any thread; a search takes milliseconds, opening an index may take seconds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.index import PassageIndex
from fettle.retrieval.vector_stores import open_searchable
from fettle.retrieval.vectors import require_same_vectors
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex

_MOST_OPEN = 16

LoadEmbedder = Callable[[str], PassageEmbedder]
"""An embedder by its name."""


class OneAtATime:
    """An embedder that is asked by one thread at a time: tokenizers cannot be shared.

    Args:
        inner: Does the work.
    """

    def __init__(self, inner: PassageEmbedder) -> None:
        self._inner, self._lock = inner, threading.Lock()
        self.name, self.max_tokens = inner.name, inner.max_tokens

    @property
    def revision(self) -> str:
        """As of the one that does the work."""
        return self._inner.revision

    @property
    def num_dimensions(self) -> int:
        """As of the one that does the work."""
        return self._inner.num_dimensions

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As the one that does the work."""
        with self._lock:
            return self._inner.embed(texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As the one that does the work."""
        with self._lock:
            return self._inner.embed_queries(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As the one that does the work."""
        with self._lock:
            return self._inner.count_tokens(texts)


class OpenEmbedders:
    """Embedders by name, each loaded once.

    Args:
        load: Loads one.
    """

    def __init__(self, load: LoadEmbedder) -> None:
        self._load, self._lock = load, threading.Lock()
        self._by_name: dict[str, OneAtATime] = {}
        self._compared: set[tuple[str, str]] = set()
        """Indexes by id, with the embedder whose vectors were found to be theirs."""

    def named(self, name: str) -> PassageEmbedder:
        """The embedder of this name, as `fettle index --embedder` takes it.

        Raises:
            ConfigError: There is none of this name.
            ModelError: It cannot be loaded.
        """
        with self._lock:
            if name not in self._by_name:
                self._by_name[name] = OneAtATime(self._load(name))
            return self._by_name[name]

    def of_index(self, store: Store, index: StoredIndex) -> PassageEmbedder:
        """The embedder of an index. One at an endpoint embeds a passage of it again first, once in the life of a server.

        Raises:
            ConfigError: It gives other vectors than before.
            ModelError: It cannot be loaded.
            RemoteError: The endpoint does not answer.
        """
        embedder = self.named(index.embedder)
        if (index.id, index.embedder) not in self._compared:
            require_same_vectors(store, index, embedder)
            self._compared.add((index.id, index.embedder))
        return embedder


@dataclass(slots=True, eq=False)
class _Opened:
    """One state of an index."""

    version: tuple[int, int]
    """Of what can be found, and of what filters look at: filters remember which documents fulfil them."""
    opening: threading.Lock = field(default_factory=threading.Lock)
    index: PassageIndex | None = None
    num_users: int = 0
    is_dropped: bool = False
    """Nobody uses it any more from now on; whoever uses it last closes it."""


class OpenIndexes:
    """Indexes by id, the least recently used of which are closed where there are too many.

    Args:
        most: How many stay open.
    """

    def __init__(self, *, most: int = _MOST_OPEN) -> None:
        self._most, self._lock = most, threading.Lock()
        self._by_id: OrderedDict[str, _Opened] = OrderedDict()  # the least recently used first

    @contextmanager
    def opened(self, store: Store, index: StoredIndex) -> Iterator[PassageIndex]:
        """An index as it stands in the store, for as long as it is searched.

        Raises:
            BusyError: Its search files are missing, and another process changes it.
            ResourceError: They are damaged.
        """
        entry = self._entry(index)
        try:
            with entry.opening:
                if entry.index is None:
                    entry.index = open_searchable(store, index)
            yield entry.index
        finally:
            self._leave(entry)

    def close(self) -> None:
        """Close all of them, those that are being searched once that is done."""
        with self._lock:
            entries = list(self._by_id.values())
            self._by_id.clear()
            unused = [entry for entry in entries if self._drop(entry)]
        _close(unused)

    def _entry(self, index: StoredIndex) -> _Opened:
        unused: list[_Opened] = []
        with self._lock:
            entry = self._by_id.get(index.id)
            version = (index.generation, index.attributes_version)
            if entry is None or entry.version < version:
                if entry is not None and self._drop(entry):
                    unused.append(entry)
                entry = self._by_id[index.id] = _Opened(version)
            entry.num_users += 1
            self._by_id.move_to_end(index.id)
            while len(self._by_id) > self._most:
                _, oldest = self._by_id.popitem(last=False)
                if self._drop(oldest):
                    unused.append(oldest)
        _close(unused)
        return entry

    def _leave(self, entry: _Opened) -> None:
        with self._lock:
            entry.num_users -= 1
            is_unused = entry.is_dropped and not entry.num_users
        if is_unused:
            _close([entry])

    def _drop(self, entry: _Opened) -> bool:
        """Let an index go; whether nobody searches it, so that it can be closed now."""
        entry.is_dropped = True
        return not entry.num_users


def _close(entries: Sequence[_Opened]) -> None:
    for entry in entries:
        if entry.index is not None:
            entry.index.close()
