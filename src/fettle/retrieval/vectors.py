"""Vectors of passages: equal texts are embedded once, and what was embedded is kept batch by batch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fettle.errors import ConfigError, IntegrityError
from fettle.progress import Listener, Stage
from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.embedders.registry import is_endpoint
from fettle.retrieval.stored import as_bytes, as_passage
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex
from fettle.store.passages import (
    Unembedded,
    find_passages,
    first_embedded,
    forget_vectors,
    list_unembedded,
    set_vectors,
)

_TEXTS_AT_ONCE = 256  # in one transaction: what a kill may cost
_STAGE = "embed passages"
_SAME_VECTOR = 0.98
"""Cosine similarity of what one model gives for one text twice, at least: half precision and other kernels cost less than 0.01."""


def embed_missing(store: Store, index: StoredIndex, embedder: PassageEmbedder, listener: Listener) -> int:
    """Embed all passages of an index that have no vector, the longest first; how many texts that were.

    Raises:
        IntegrityError: The embedder gave something that is no vector of this index.
        ModelError: The embedder cannot be loaded.
        RemoteError: An endpoint does not answer.
        ConfigError: An endpoint has another model by now.
    """
    progress = _Progress(listener)
    if _missing(store, index):
        require_same_vectors(store, index, embedder)
    while missing := _missing(
        store, index
    ):  # again where a passage was deleted on whose behalf a text was to be embedded
        progress.expect(len(missing))
        for start in range(0, len(missing), _TEXTS_AT_ONCE):
            batch = missing[start : start + _TEXTS_AT_ONCE]
            progress.add(_embed(store, index, embedder, batch), num_over=len(batch))
    return progress.num_embedded


def require_same_vectors(store: Store, index: StoredIndex, embedder: PassageEmbedder) -> None:
    """Refuse an endpoint that gives a text of the index another vector than before: its model is known by its name alone.

    Other embedders are known by the hash of their weights, and are not asked. Of an index that is being made in another one's
    place the old vectors are forgotten instead.

    Raises:
        ConfigError: The vectors differ by more than another batch, precision or processor makes them differ.
        RemoteError: The endpoint does not answer.
    """
    if not is_endpoint(index.embedder):
        return
    with store.reading() as connection:
        known = first_embedded(connection, index.id)
    if known is None:
        return
    before_D = np.frombuffer(known.vector or b"", dtype=np.dtype("<f4"))
    now_D = _checked(embedder.embed([as_passage(known).embedded_text]), 1, index)[0]
    similarity = float(before_D @ now_D)
    if similarity >= _SAME_VECTOR:
        return
    if index.replaces is None:
        raise ConfigError(
            f"{embedder.name} embeds a passage of the index in another way than when it was made (similarity {similarity:.2f}, "
            "where the same model gives 1.00): there is another model under the same name",
            where=index.name or index.id,
            remedy="have the endpoint serve the model that the index was made with, choose another --name, or make all of it "
            "anew with --rebuild",
        )
    with store.writing() as connection:  # of a run that was killed
        forget_vectors(connection, index.id)


def _missing(store: Store, index: StoredIndex) -> list[Unembedded]:
    with store.reading() as connection:
        return list_unembedded(connection, index.id)


def _embed(store: Store, index: StoredIndex, embedder: PassageEmbedder, batch: Sequence[Unembedded]) -> int:
    """Embed some texts and keep their vectors; how many they are by now."""
    with store.reading() as connection:
        found = find_passages(connection, index.id, [text.number for text in batch])
    left = [text for text in batch if text.number in found]
    vectors_ND = _checked(
        embedder.embed([as_passage(found[text.number]).embedded_text for text in left]), len(left), index
    )
    vectors = {text.text_hash: as_bytes(vector_D) for text, vector_D in zip(left, vectors_ND, strict=True)}
    if vectors:
        with store.writing() as connection:
            set_vectors(connection, index.id, vectors)
    return len(left)


class _Progress:
    """Tells how many texts are embedded, and how fast it goes."""

    def __init__(self, listener: Listener) -> None:
        self._listener, self._started = listener, time.perf_counter()
        self._num_over = self._num_total = self.num_embedded = 0

    def expect(self, num_more: int) -> None:
        self._num_total = self._num_over + num_more

    def add(self, num_embedded: int, *, num_over: int) -> None:
        self.num_embedded += num_embedded
        self._num_over += num_over
        rate = self.num_embedded / max(time.perf_counter() - self._started, 1e-9)
        note = f"{rate:.0f} passages/s"
        stage = Stage(name=_STAGE, num_done=self._num_over, num_total=self._num_total, note=note)
        self._listener.on_stage(stage)


def _checked(vectors_ND: NDArray[np.float32], num_texts: int, index: StoredIndex) -> NDArray[np.float32]:
    wanted = (num_texts, index.num_dimensions)
    if vectors_ND.shape != wanted or not np.isfinite(vectors_ND).all():
        came = f"came {list(vectors_ND.shape)}" if vectors_ND.shape != wanted else "some are no finite numbers"
        raise IntegrityError(
            f"expected {num_texts} vectors of {index.num_dimensions} finite numbers, and {came}",
            where=index.embedder,
            remedy="see that the embedder is the one that the index was made with, and works",
        )
    return vectors_ND
