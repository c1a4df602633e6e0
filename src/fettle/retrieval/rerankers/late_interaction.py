"""Question and passage compared token by token, with the token vectors of the packaged embedder: no further model, no training.

Source: Khattab and Zaharia 2020, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT",
whose vectors are trained for it; these are not, and find more than the search all the same (docs/design/022-search.md).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from fettle.retrieval.embedder import MiniLMEmbedder
from fettle.retrieval.records import Found
from fettle.retrieval.rerankers.registry import LATE_INTERACTION

_MOST_KEPT_TOKENS = 200_000
"""Of passages whose vectors are kept, 150 MB in two bytes a number: of some thousand questions about the same documents most
candidates come again."""


class LateInteraction:
    """Scores a passage by how similar its most similar token is to each token of the question, in the mean: in [-1, 1].

    Only the first 256 tokens of a passage count. It takes about as long as embedding the candidates that were not seen lately.

    Args:
        embedder: Whose token vectors are compared; None: one of its own.
    """

    name = LATE_INTERACTION
    max_candidates = 20

    def __init__(self, embedder: MiniLMEmbedder | None = None) -> None:
        self._embedder = embedder or MiniLMEmbedder()
        self._kept: OrderedDict[str, NDArray[np.float16]] = OrderedDict()  # the one used last is the last
        self._num_kept_tokens = 0
        self._lock = Lock()

    def identity(self) -> str:
        """Name and weights."""
        return f"{self.name} {self._embedder.revision}"

    def scores(self, question: str, candidates: Sequence[Found]) -> list[float]:
        """One score a candidate, in their order; 0 for all where the question or the passage has no token.

        Raises:
            ModelError: The packaged model is missing, or not the published one.
        """
        texts = [candidate.passage.embedded_text for candidate in candidates]
        with self._lock:
            question_TD, passages = self._embedded(question, texts)
        if len(question_TD) == 0:
            return [0.0] * len(candidates)
        similarities = (question_TD @ passages[text].astype(np.float32).T for text in texts)
        return [float(similarity_QT.max(axis=1, initial=-1.0).mean()) for similarity_QT in similarities]

    def _embedded(
        self, question: str, texts: Sequence[str]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float16]]]:
        """The token vectors of the question and of each text."""
        unseen = [text for text in dict.fromkeys(texts) if text not in self._kept]
        question_TD, *new = self._embedder.embed_tokens([question, *unseen])
        for text, rows_TD in zip(unseen, new, strict=True):
            self._kept[text] = rows_TD.astype(np.float16)
            self._num_kept_tokens += len(rows_TD)
        found = {text: self._kept[text] for text in texts}
        for text in found:
            self._kept.move_to_end(text)
        while self._num_kept_tokens > _MOST_KEPT_TOKENS:
            _, forgotten_TD = self._kept.popitem(last=False)
            self._num_kept_tokens -= len(forgotten_TD)
        return question_TD, found
