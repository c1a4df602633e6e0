"""What an index outside the database is made from and asks the store for: batches of passages, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fettle.retrieval.filters import Filter, fulfils
from fettle.retrieval.records import AttributeValue, Passage

_NUM_REMEMBERED_FILTERS = 32


class PassageBatch(Protocol):
    """Some passages with their vectors."""

    @property
    def keys(self) -> Sequence[int]:
        """Each a whole number of its own, rising from batch to batch."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """Headings included."""
        ...

    @property
    def vectors_ND(self) -> NDArray[np.float32]:  # noqa: N802 (shape suffix)
        """Of unit length, one a passage."""
        ...


class PassageReader(Protocol):
    """What the store knows of the passages of an index."""

    def find(self, keys: Sequence[int]) -> Mapping[int, Passage]:
        """The passages of these keys; one that was deleted since is not among them."""
        ...

    def keys(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The keys of all passages, rising, and the number of the document of each: [P], [P]."""
        ...

    def attributes(self) -> Mapping[int, Mapping[str, AttributeValue]]:
        """Of every document, by its number."""
        ...


def checked_batches(batches: Iterable[PassageBatch], num_dimensions: int) -> Iterator[PassageBatch]:
    """The same batches.

    Raises:
        ValueError: Keys do not rise, or a batch has vectors of another shape.
    """
    last_key = -1
    for batch in batches:
        num_keys = len(batch.keys)
        if batch.vectors_ND.shape != (num_keys, num_dimensions) or len(batch.texts) != num_keys:
            expected = f"{num_keys} vectors of {num_dimensions} dimensions and as many texts"
            raise ValueError(f"expected {expected}, not {batch.vectors_ND.shape} and {len(batch.texts)}")
        if (np.diff([last_key, *batch.keys]) <= 0).any():
            raise ValueError("the keys of passages have to rise")
        last_key = batch.keys[-1] if num_keys else last_key
        yield batch


class AllowedRows:
    """Which rows of an index a filter leaves; the last few filters are remembered. Safe to use from several threads.

    Args:
        keys_N: Of the rows, rising.
        reader: Where the attributes are.
    """

    def __init__(self, keys_N: NDArray[np.int64], reader: PassageReader) -> None:
        self._keys_N, self._reader = keys_N, reader
        self._documents_N: NDArray[np.int64] | None = None
        self._rows_by_filter: dict[str, NDArray[np.bool_]] = {}
        self._lock = Lock()

    def of(self, where: Filter | None) -> NDArray[np.bool_] | None:
        """Whether each row may be found, [N]; None: all may."""
        if where is None:
            return None
        asked = repr(where)  # a condition on 1 equals one on true, and does not mean the same
        with self._lock:
            if asked not in self._rows_by_filter:
                while len(self._rows_by_filter) >= _NUM_REMEMBERED_FILTERS:
                    del self._rows_by_filter[next(iter(self._rows_by_filter))]
                self._rows_by_filter[asked] = self._looked_up(where)
            return self._rows_by_filter[asked]

    def _looked_up(self, where: Filter) -> NDArray[np.bool_]:
        attributes = self._reader.attributes()
        fulfilling = [document for document, values in attributes.items() if fulfils(values, where)]
        if self._documents_N is None:
            self._documents_N = self._documents_of_rows()
        return np.isin(self._documents_N, np.array(fulfilling, dtype=np.int64))

    def _documents_of_rows(self) -> NDArray[np.int64]:
        """The number of each row's document, -1 for a passage that was deleted since: [N]."""
        keys_P, documents_P = self._reader.keys()
        documents_N = np.full(len(self._keys_N), -1, dtype=np.int64)
        _, rows_M, places_M = np.intersect1d(self._keys_N, keys_P, assume_unique=True, return_indices=True)
        documents_N[rows_M] = documents_P[places_M]
        return documents_N
