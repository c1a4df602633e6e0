"""Brings an index up to date, and is killed on the way: HOME FILE_OF_WHAT_WAS_EMBEDDED NUM_WORDS_TO_THE_LISTENER."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fettle.retrieval import staging, vectors
from fettle.store.database import Store
from indexed import KilledListener, WordEmbedder, document, indexed

OLD_DOCUMENTS = [document(f"{number}.md", f"Counter {number} opens at nine.") for number in range(4)]
DOCUMENTS = [
    document(
        f"{number}.md", *(f"Counter {number} has rule {rule}." for rule in range(number % 7)), "All rights reserved."
    )
    for number in range(2, 10)
]


class NotingEmbedder(WordEmbedder):
    def __init__(self, asked: Path, listener: KilledListener) -> None:
        super().__init__()
        self._listener = listener
        self._file = asked.open("a", encoding="utf-8")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self._file.writelines(f"{text}\n" for text in texts)
        self._file.flush()
        self._listener.on_message("what was embedded is not kept yet")
        return super().embed(texts)


def main() -> None:
    home, asked, num_left = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    staging._PASSAGES_AT_ONCE = 10  # several transactions for so few documents
    vectors._TEXTS_AT_ONCE = 8
    store = Store(home)
    listener = KilledListener(num_left)
    embedder = NotingEmbedder(asked, listener)
    if not (home / "first").exists():
        indexed(store, OLD_DOCUMENTS, embedder=embedder, listener=listener)
        (home / "first").touch()
    indexed(store, DOCUMENTS, embedder=embedder, listener=listener)


if __name__ == "__main__":
    main()
