"""The interface of what passages are searched with: made from the store, thrown away and made anew at any time.

Texts and vectors are in the store, which alone says what can be found. A backend makes a generation of its own data from it before
that generation can be found (`prepare`), and throws away older ones after that (`discard`): a kill in between leaves data that
nobody looks at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from fettle.progress import Listener
from fettle.retrieval.index import PassageIndex
from fettle.retrieval.stored import EmbeddedPassages, embedded_passages
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex


class Generation:
    """What can be found in an index from some moment on.

    Args:
        store: Where the passages are.
        index: Whose generation it is.
        number: Of the generation.
        kept_as: The index under whose id the passages are until then: `index`, or one that is made in its place.
        documents: Numbers of the documents in it.
    """

    def __init__(
        self, store: Store, index: StoredIndex, *, number: int, kept_as: StoredIndex, documents: frozenset[int]
    ) -> None:
        self.store, self.index, self.number = store, index, number
        self.kept_as, self.documents = kept_as, documents

    def passages(self) -> Iterator[EmbeddedPassages]:
        """All of them in batches, in the order of their keys."""
        return embedded_passages(self.store, self.kept_as, self.documents)


class Backend(Protocol):
    """One way of searching passages."""

    def prepare(self, generation: Generation, listener: Listener) -> None:
        """Make what a generation is searched with. What can be found until it is published stays as it is."""
        ...

    def is_prepared(self, store: Store, index: StoredIndex) -> bool:
        """Whether there is what the index's present generation is searched with; after a restore there may be nothing."""
        ...

    def open(self, store: Store, index: StoredIndex) -> PassageIndex:
        """The present generation of an index.

        Raises:
            ResourceError: What it is searched with is not there, or damaged.
        """
        ...

    def discard(self, store: Store, index_id: str, *, keep: int | None) -> None:
        """Throw away what all generations but one are searched with; None: of all."""
        ...
