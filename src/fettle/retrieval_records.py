"""What a study with documents says of searching and of answering from what was found: frozen, plain data like `fettle.records`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fettle.records import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallAt:
    """The share of the right documents that are among the first passages found, mean over questions."""

    depth: int
    """How many passages are looked at."""
    recall: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuality:
    """How well one way of searching finds the documents that answer the test questions."""

    method: str
    """As people read it."""
    is_used: bool
    """Whether the contenders search so."""
    recalls: tuple[RecallAt, ...]
    """The smallest depth first."""
    reciprocal_rank: Interval
    """Mean of 1 / rank of the first right document among the documents found, 0 where it is not found (MRR)."""
    ndcg: Interval
    """Normalised discounted cumulative gain at the greatest depth of `recalls`."""


class Seen(StrEnum):
    """Whether a contender could have known the answer from its passages."""

    SHOWN = "shown"
    """A passage of a right document that holds the answer stood in its prompt, or else the one that supports it best; any of that
    document, where none clearly does."""
    MISSED = "missed"
    """The documents answer the question, and no such passage stood in its prompt."""
    ABSENT = "absent"
    """The documents do not answer the question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenScores:
    """How a contender answers the questions of one kind."""

    seen: Seen
    num_questions: int
    score: Interval | None
    """Mean primary score; None: there are no such questions, or none of them was scored."""
    lost: float
    """What is missing to a perfect score on them, in points of the mean score over all questions here, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LostScore:
    """Where one contender loses: in searching or in answering."""

    contender: str
    groups: tuple[SeenScores, ...]
    """One for each `Seen`, in its order."""

    @property
    def lost_in_search(self) -> float:
        """Of the mean score, in [0, 1]: on questions whose answer was not in the prompt."""
        return sum(group.lost for group in self.groups if group.seen is Seen.MISSED)

    @property
    def lost_in_answering(self) -> float:
        """Of the mean score, in [0, 1]: all the rest, answers that should have said that the documents do not tell included."""
        return sum(group.lost for group in self.groups if group.seen is not Seen.MISSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPassage:
    """A passage that some prompt of the test split held."""

    id: str
    heading: str
    source: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalReport:
    """The documents of a study, and how well they are searched and used."""

    place: str
    """The folder, the URL or the name of the index."""
    index_sha256: str
    """The same hash, the same passages."""
    num_documents: int
    num_passages: int
    description: str
    """How they are searched, in words."""
    num_shown: int
    """Passages in a prompt, at most."""
    num_searched: int
    """Test questions that say which documents answer them: the qualities are of these."""
    num_absent: int
    """Test questions that the documents do not answer; the losses are of both."""
    qualities: tuple[SearchQuality, ...] = ()
    """Empty where no test question says which documents answer it."""
    losses: tuple[LostScore, ...] = ()
    passages: tuple[ShownPassage, ...] = field(default=())
    """All that were shown to a contender for a test question."""
