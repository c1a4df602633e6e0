"""Vectors of passages: equal texts are embedded once, and what was embedded is kept batch by batch."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from fettle.errors import IntegrityError
from fettle.progress import Listener, Stage
from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.stored import as_bytes, as_passage
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex
from fettle.store.passages import find_passages, list_unembedded, set_vectors

_TEXTS_AT_ONCE = 256  # in one transaction: what a kill may cost
_STAGE = "embed passages"


def embed_missing(store: Store, index: StoredIndex, embedder: PassageEmbedder, listener: Listener) -> int:
    """Embed all passages of an index that have no vector, the longest first; how many texts that were.

    Raises:
        IntegrityError: The embedder gave something that is no vector of this index.
        ModelError: The embedder cannot be loaded.
        RemoteError: An endpoint does not answer.
    """
    with store.reading() as connection:
        missing = list_unembedded(connection, index.id)
    started = time.perf_counter()
    for start in range(0, len(missing), _TEXTS_AT_ONCE):
        batch = missing[start : start + _TEXTS_AT_ONCE]
        with store.reading() as connection:
            found = find_passages(connection, index.id, [text.number for text in batch])
        batch = [text for text in batch if text.number in found]  # others were deleted since
        texts = [as_passage(found[text.number]).embedded_text for text in batch]
        vectors_ND = _checked(embedder.embed(texts), len(texts), index)
        vectors = {text.text_hash: as_bytes(vector_D) for text, vector_D in zip(batch, vectors_ND, strict=True)}
        with store.writing() as connection:
            set_vectors(connection, index.id, vectors)
        num_done = start + len(batch)
        note = f"{num_done / max(time.perf_counter() - started, 1e-9):.0f} passages/s"
        listener.on_stage(Stage(name=_STAGE, num_done=num_done, num_total=len(missing), note=note))
    return len(missing)


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
