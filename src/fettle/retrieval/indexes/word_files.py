"""Full-text search over files: BM25 with all scores computed when the index is built.

Building takes some kilobytes of memory a passage for as long as it lasts; an index that is searched reads its files where they lie.

Source: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond"; Lù 2024, "BM25S".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fettle.retrieval.words import FREQUENT_COUNT, asked_words, language_of, rarity, share_found, stems_of, words_of

_K1, _B = 1.5, 0.75
"""Tried on SQuAD: nothing between 0.9 and 2, 0.4 and 0.75 was better (docs/design/022-search.md)."""


class WordFilesBuilder:
    """Takes in texts and writes what finds them by their words."""

    def __init__(self) -> None:
        self._number_by_word: dict[str, int] = {}
        self._num_by_word: Counter[str] = Counter()
        self._numbers_by_text: list[list[int]] = []

    def add(self, texts: Sequence[str]) -> None:
        """The next passages, in the order of their rows."""
        number_by_word = self._number_by_word
        for text in texts:
            words = words_of(text)
            self._num_by_word.update(words)
            # setdefault hands out one integer object a word, which is what keeps the lists small
            self._numbers_by_text.append([number_by_word.setdefault(word, len(number_by_word)) for word in words])

    def write(self, folder: Path) -> str | None:
        """Write the files into a folder that does not exist yet; none where no text has a word.

        Returns:
            The language whose endings are left out of account, None for none; the search has to be told it.
        """
        from bm25s import BM25

        language = language_of(self._num_by_word)
        words = list(self._number_by_word)
        vocabulary: dict[str, int] = {}
        stem_numbers = [vocabulary.setdefault(stem, len(vocabulary)) for stem in stems_of(words, language)]
        if not vocabulary:
            return None
        rows = [[stem_numbers[number] for number in numbers] for numbers in self._numbers_by_text]
        scorer = BM25(k1=_K1, b=_B, method="lucene", backend="numpy")
        scorer.index((rows, vocabulary), create_empty_token=False, show_progress=False)
        scorer.save(folder, allow_pickle=False, show_progress=False)
        return language


class WordFiles:
    """The files of a folder, searched; safe to use from several threads.

    Args:
        folder: What `WordFilesBuilder.write` has written; None: no text had a word, and it wrote nothing.
        language: What it returned.

    Raises:
        OSError: The files are not there.
    """

    def __init__(self, folder: Path | None, language: str | None) -> None:
        from bm25s import BM25

        self._language = language
        self._scorer: BM25 | None = None
        if folder is not None:
            self._scorer = BM25.load(folder, mmap=True, allow_pickle=False, show_progress=False)

    def scores(self, query: str) -> NDArray[np.float32] | None:
        """The BM25 score of every row, 0 for one that has none of the words that tell; None where no row has one.

        The most frequent words of the language count half, and find nothing by themselves unless the query has no others.
        """
        asked = asked_words(query, self._language)
        scores_N = self._scores_of(asked.telling)
        if scores_N is None:
            return None
        frequent_N = self._scores_of(asked.frequent)
        if frequent_N is None:
            return scores_N
        return np.where(scores_N > 0, scores_N + FREQUENT_COUNT * frequent_N, 0).astype(np.float32)

    def share_of_words(self, query: str, row: int) -> float:
        """Which share of the query's telling words a row has, rare ones counting more; those that no row has do not count."""
        if self._scorer is None:
            return 0.0
        rarity_by_word: dict[str, float] = {}
        found: set[str] = set()
        starts_W, rows = self._scorer.scores["indptr"], self._scorer.scores["indices"]
        for word in asked_words(query, self._language).telling:
            for number in self._scorer.get_tokens_ids([word]):
                rows_M = rows[starts_W[number] : starts_W[number + 1]]
                rarity_by_word[word] = rarity(self._scorer.scores["num_docs"], len(rows_M))
                if (rows_M == row).any():
                    found.add(word)
        return share_found(rarity_by_word, found)

    def _scores_of(self, stems: Sequence[str]) -> NDArray[np.float32] | None:
        if self._scorer is None or not stems:
            return None
        numbers = self._scorer.get_tokens_ids(list(stems))
        return self._scorer.get_scores_from_ids(numbers) if numbers else None
