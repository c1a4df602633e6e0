"""An index and the way it is searched, as a `Retriever`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fettle.errors import ConfigError, require_range
from fettle.files import sha256_of_json
from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.filters import Filter
from fettle.retrieval.fusion import fuse
from fettle.retrieval.index import PassageIndex
from fettle.retrieval.lookup import as_read
from fettle.retrieval.records import Found, Passage, Ranked, SearchMethod, SearchSettings
from fettle.retrieval.reranker import Reranker
from fettle.retrieval.rerankers.registry import reranker_named

_METHODS_IN_WORDS = {
    SearchMethod.VECTOR: "by meaning",
    SearchMethod.FULL_TEXT: "by words",
    SearchMethod.HYBRID: "by meaning and by words",
}
_EDITION = 2
"""Of words, fusion and choice: rises whenever the same index would find other passages."""
_MOST_LOOKED_AT = 20
"""Times as many passages as are wanted, where most of them repeat each other."""


class IndexSearch:
    """Searches an index for questions.

    Args:
        index: What is searched.
        embedder: The one that the index was made with.
        settings: How it is searched.
        reranker: What looks at the candidates once more; None: what the settings name.

    Raises:
        ConfigError: The embedder is another one, or a setting is out of range.
        ModelError: There is no reranker of that name.
    """

    def __init__(
        self,
        index: PassageIndex,
        embedder: PassageEmbedder,
        settings: SearchSettings,
        *,
        reranker: Reranker | None = None,
    ) -> None:
        require_same_embedder(index, embedder)
        require_range("num_passages", settings.num_passages, low=1)
        require_range("num_candidates", settings.num_candidates, low=1)
        if settings.max_tokens is not None:
            require_range("max_tokens", settings.max_tokens, low=1)
        self.index, self.settings = index, settings
        self._embedder = embedder
        if reranker is None and settings.reranker is not None:
            reranker = reranker_named(settings.reranker)
        self._reranker = reranker

    def search(self, question: str, *, where: Filter | None = None) -> tuple[Found, ...]:
        """The passages for one question, the best first; none where nothing fits.

        Raises:
            ModelError: The embedder or the reranker cannot be loaded.
        """
        return self._found(question, self._embedded([question])[0], where)

    def search_all(self, questions: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        """The same for each of many questions, in their order, which are embedded together."""
        vectors = self._embedded(questions)
        return tuple(self._found(question, vector, None) for question, vector in zip(questions, vectors, strict=True))

    def describe(self) -> str:
        """The index and the way it is searched, in words."""
        made_of, settings = self.index.description, self.settings
        name = made_of.name or made_of.id
        size = f"{made_of.num_passages:,} passages of {made_of.num_documents:,} documents"
        how = _METHODS_IN_WORDS[settings.method]
        if self._reranker:
            how += f", reranked by {self._reranker.name}"
        bound = f", at most {settings.max_tokens} tokens" if settings.max_tokens else ""
        return f"{name} ({size}), searched {how}: {settings.num_passages} passages{bound}"

    def identity(self) -> str:
        """The hash of the index's content, the embedder, the settings, the reranker, and how all of it is searched."""
        made_of = self.index.description
        reranker = self._reranker.identity() if self._reranker else None
        return sha256_of_json(
            [_EDITION, made_of.sha256, made_of.backend, made_of.embedder_revision, asdict(self.settings), reranker]
        )

    def _embedded(self, questions: Sequence[str]) -> Sequence[NDArray[np.float32] | None]:
        if self.settings.method is SearchMethod.FULL_TEXT:
            return [None] * len(questions)
        return list(self._embedder.embed_queries(questions))

    def _found(self, question: str, query_D: NDArray[np.float32] | None, where: Filter | None) -> tuple[Found, ...]:
        if self._reranker is None:
            candidates = self._candidates(question, query_D, where, at_once=self.settings.num_passages)
        else:
            some = self._candidates(question, query_D, where, at_once=self._reranker.max_candidates)
            candidates = _reranked(question, some, self._reranker)
        return tuple(chosen(candidates, self.settings))

    def _candidates(
        self, question: str, query_D: NDArray[np.float32] | None, where: Filter | None, *, at_once: int
    ) -> Iterator[Found]:
        """As many as the settings want, the best first and each once.

        Passages that were deleted since search files were made are passed over, and so are those that read like a better one. Where
        there were some, rankings twice as long are asked for until enough are found, no ranking has more, or
        `_MOST_LOOKED_AT` times as many as are wanted were looked at; what only those have found comes after what was found before.

        Args:
            question: For the search by words.
            query_D: For the search by meaning; None: there is none.
            where: What must be fulfilled.
            at_once: How many are read from the store together.
        """
        num_wanted = max(self.settings.num_candidates, self.settings.num_passages)
        length, num_found, num_deleted = num_wanted, 0, 0
        looked_at: set[int] = set()
        read: set[str] = set()
        while True:
            rankings = self._rankings(question, query_D, where, length)
            ranked = self._fused(question, rankings) if len(rankings) > 1 else rankings[0]
            new = [one for one in ranked if one.key not in looked_at]
            looked_at.update(one.key for one in new)
            for start in range(0, len(new), at_once):
                some = new[start : start + at_once]
                kept = self._read(some)
                num_deleted += len(some) - len(kept)
                for one, passage in kept:
                    if (reads := as_read(passage)) in read:
                        continue
                    read.add(reads)
                    num_found += 1
                    yield Found(passage=passage, rank=num_found, score=one.score)
                    if num_found == num_wanted:
                        return
            has_passed_over = num_found < len(looked_at)
            if not has_passed_over or all(len(ranking) < length for ranking in rankings):
                return
            if len(looked_at) - num_deleted >= _MOST_LOOKED_AT * num_wanted:
                return
            length *= 2

    def _rankings(
        self, question: str, query_D: NDArray[np.float32] | None, where: Filter | None, length: int
    ) -> list[list[Ranked]]:
        rankings: list[list[Ranked]] = []
        if query_D is not None:
            rankings.append(self.index.nearest(query_D, length, where))
        if self.settings.method is not SearchMethod.VECTOR:
            rankings.append(self.index.matching(question, length, where))
        return rankings

    def _fused(self, question: str, rankings: Sequence[Sequence[Ranked]]) -> list[Ranked]:
        """Those found by meaning and those found by words together."""
        nearest, matching = rankings
        share = self.index.share_of_words(question, matching[0].key) if matching else 0.0
        return fuse(nearest, matching, share)

    def _read(self, ranked: Sequence[Ranked]) -> list[tuple[Ranked, Passage]]:
        """The passages in this order, without those that were deleted; halves are read alone until it is known which those are."""
        passages = self.index.passages([one.key for one in ranked])
        if not passages:
            return []
        if len(passages) == len(ranked):
            return list(zip(ranked, passages, strict=True))
        middle = len(ranked) // 2
        return [*self._read(ranked[:middle]), *self._read(ranked[middle:])]


def _reranked(question: str, candidates: Iterator[Found], reranker: Reranker) -> Iterator[Found]:
    """Those that the reranker looks at with their new scores, the best first, equal ones as they were; then the others."""
    looked_at = list(islice(candidates, reranker.max_candidates))
    scores = reranker.scores(question, looked_at)
    scored = [replace(candidate, score=score) for candidate, score in zip(looked_at, scores, strict=True)]
    yield from sorted(scored, key=lambda found: -found.score)
    yield from candidates


def chosen(candidates: Iterable[Found], settings: SearchSettings) -> Iterator[Found]:
    """The candidates that are shown, in their order and ranked anew from 1.

    One that no longer fits whole into what is left of the budget is left out; a shorter one after it may still fit.
    """
    num_shown, num_tokens_left = 0, settings.max_tokens
    for candidate in candidates:
        if num_tokens_left is not None:
            if candidate.passage.num_tokens > num_tokens_left:
                continue
            num_tokens_left -= candidate.passage.num_tokens
        num_shown += 1
        yield replace(candidate, rank=num_shown)
        if num_shown == settings.num_passages:
            return


def require_same_embedder(index: PassageIndex, embedder: PassageEmbedder) -> None:
    """Refuse to compare questions with the vectors of another embedder.

    Raises:
        ConfigError: The embedder is not the one that the index was made with.
    """
    made_of = index.description
    if (made_of.embedder_revision, made_of.num_dimensions) != (embedder.revision, embedder.num_dimensions):
        came = f"{embedder.name} of revision {embedder.revision[:12]} with {embedder.num_dimensions} dimensions"
        raise ConfigError(
            f"expected its own embedder, {made_of.embedder} of revision {made_of.embedder_revision[:12]} with "
            f"{made_of.num_dimensions} dimensions, and it is {came}",
            where=f"index {made_of.name or made_of.id}",
            remedy="bring back the embedder that it was made with, or index the documents again with --rebuild",
        )
