"""Question and passage compared token by token, with the token vectors of the packaged embedder: no further model, no training.

Source: Khattab and Zaharia 2020, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT",
whose vectors are trained for it; these are not, and find more than the search all the same (docs/design/022-search.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from fettle.retrieval.embedder import MiniLMEmbedder
from fettle.retrieval.records import Found
from fettle.retrieval.rerankers.registry import LATE_INTERACTION


class LateInteraction:
    """Scores a passage by how similar its most similar token is to each token of the question, in the mean: in [-1, 1].

    Only the first 256 tokens of a passage count. It takes about as long as embedding the candidates.

    Args:
        embedder: Whose token vectors are compared; None: one of its own.
    """

    name = LATE_INTERACTION
    max_candidates = 20

    def __init__(self, embedder: MiniLMEmbedder | None = None) -> None:
        self._embedder = embedder or MiniLMEmbedder()

    def identity(self) -> str:
        """Name and weights."""
        return f"{self.name} {self._embedder.revision}"

    def scores(self, question: str, candidates: Sequence[Found]) -> list[float]:
        """One score a candidate, in their order; 0 for all where the question or the passage has no token.

        Raises:
            ModelError: The packaged model is missing, or not the published one.
        """
        texts = [candidate.passage.embedded_text for candidate in candidates]
        question_TD, *passages = self._embedder.embed_tokens([question, *texts])
        if len(question_TD) == 0:
            return [0.0] * len(candidates)
        return [float((question_TD @ passage_TD.T).max(axis=1, initial=-1.0).mean()) for passage_TD in passages]
