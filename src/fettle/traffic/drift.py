"""Whether requests, and the confidence of their answers, are still those of the test split.

A request is put into numbers that know nothing of other requests: how far it is from the nearest training example, how long it
is, and where it lies along the directions in which training examples differ most. Test examples are put into the same numbers,
and `statistics.exchangeability` bets that requests are not like them; of distances, only greater ones are a change, as a request
that repeats a training example is nothing strange. Personal data are taken out of all of them first: kept requests are without, and
would be other than the test split for that alone. The alarm is raised where the bets have become 1/a times as rich, which
happens with a probability of at most a if nothing changes, however often one looks and for however long.

"Nothing changes" means that requests and test examples are draws of one kind, each for itself. One user who sends the same again
and again is a change to this: give one request a conversation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fettle.errors import DataError
from fettle.retrieval.embedder import Embedder
from fettle.statistics.exchangeability import Watch, begin_watch
from fettle.traffic.redact import redacted

FEWEST_ANCHORS, FEWEST_KNOWN = 10, 20
"""Fewest training and test examples that requests can be held against."""
DISTANCE, LENGTH, DIRECTION, CONFIDENCE = "distance", "length", "direction", "confidence"
_MOST_DIRECTIONS = 6
_DECIMALS = 5
"""Finer differences between vectors depend on what else was in the embedder's batch."""
_NUM_STRANGEST = 10


class Surroundings:
    """Training examples, and how other texts lie among them.

    Args:
        texts: What the training examples ask.
        embedder: What makes vectors.

    Raises:
        DataError: There are too few.
    """

    def __init__(self, texts: Sequence[str], embedder: Embedder) -> None:
        if len(texts) < FEWEST_ANCHORS:
            raise DataError(
                f"expected at least {FEWEST_ANCHORS} training examples to hold requests against, found {len(texts)}",
                remedy="give the file that the model was trained on",
            )
        self._texts, self._embedder = tuple(texts), embedder
        self._vectors_ND = np.round(embedder.embed(self._texts).astype(np.float64), _DECIMALS)
        self._mean_D = self._vectors_ND.mean(axis=0)
        _, spread, directions_DD = np.linalg.svd(self._vectors_ND - self._mean_D, full_matrices=False)
        num = min(_MOST_DIRECTIONS, len(texts) // 5, int((spread > 1e-6).sum()))
        directions_KD = directions_DD[:num]
        strongest = np.abs(directions_KD).argmax(axis=1)
        signs_K1 = np.sign(directions_KD[np.arange(num), strongest])[:, None]  # a decomposition leaves them open
        self._directions_KD = directions_KD * signs_K1

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns of `places`."""
        return (DISTANCE, LENGTH, *(f"{DIRECTION} {number + 1}" for number in range(len(self._directions_KD))))

    def places(self, texts: Sequence[str]) -> Places:
        """Where some texts lie."""
        vectors_BD = np.round(self._embedder.embed(list(texts)).astype(np.float64), _DECIMALS)
        similar_BN = vectors_BD @ self._vectors_ND.T
        nearest = similar_BN.argmax(axis=1) if len(texts) else np.zeros(0, dtype=np.int64)
        distances = 1 - similar_BN[np.arange(len(texts)), nearest]
        lengths = np.log1p([float(len(text)) for text in texts]).reshape(-1)
        along_BK = (vectors_BD - self._mean_D) @ self._directions_KD.T
        values = np.column_stack([distances, lengths, *along_BK.T]).astype(np.float64)
        return Places(
            values=np.round(values, _DECIMALS),
            distances=distances,
            nearest=tuple(self._texts[int(one)] for one in nearest),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where some texts lie among the training examples."""

    values: NDArray[np.float64]
    """[B, F], a column for each name."""
    distances: NDArray[np.float64]
    """1 - cosine similarity to the nearest training example, [B]."""
    nearest: tuple[str, ...]
    """What that one asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it is held against the test split."""

    id: str
    text: str
    """What is asked."""
    confidence: float | None = None
    """Of its answer, higher is surer: the mean log-probability of its tokens, or the margin of its label; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What one feature says."""

    name: str
    evidence: float
    """How many times richer betting on it alone has become; 1 says nothing."""
    before: float
    """Median over the test split, in the unit of the feature: cosine distance, characters, log-probability."""
    now: float | None
    """Median over the latest requests; None: there are none of which it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrangeRequest:
    """A request that is far from all training examples."""

    id: str
    text: str
    distance: float
    nearest: str
    """What the nearest training example asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What a look at some more requests has shown."""

    num_known: int
    """Test examples."""
    num_requests: int
    """All that were looked at so far."""
    num_new: int
    """Of them, at this look."""
    num_looks: int
    false_alarm_rate: float
    """The probability that, if nothing changes, there is ever an alarm, is at most this."""
    evidence: float
    """How many times richer the bets have become."""
    moved: tuple[Moved, ...]
    """All features, the most telling first."""
    strangest: tuple[StrangeRequest, ...]
    """Of the new requests those farther from training examples than 95 % of the test split, the farthest first, ten at most."""

    @property
    def is_alarm(self) -> bool:
        """Whether requests are no longer what the test split was."""
        return self.evidence >= 1 / self.false_alarm_rate


@dataclass(slots=True)
class DriftWatch:
    """Holds requests against the test split, look after look.

    Args:
        surroundings: The training examples.
        inputs: Bets on what is asked.
        confidence: Bets on how sure the answers are; None: it is not known how sure those to the test split were.
        test_values: Of the test split, [N, F].
        test_distances: Of the test split, [N].
        test_confidences: Of the test split; empty where they are not known.
        num_requests: Looked at so far.
    """

    surroundings: Surroundings
    inputs: Watch
    confidence: Watch | None
    test_values: NDArray[np.float64] = field(repr=False)
    test_distances: NDArray[np.float64] = field(repr=False)
    test_confidences: tuple[float, ...] = field(default=(), repr=False)
    num_requests: int = 0

    @property
    def log_evidence(self) -> float:
        """Of inputs and confidence together, half of the stake on each."""
        if self.confidence is None:
            return self.inputs.log_evidence
        return float(np.logaddexp(self.inputs.log_evidence, self.confidence.log_evidence)) - math.log(2)

    def look(self, requests: Sequence[Request], *, false_alarm_rate: float = 0.01) -> DriftReport:
        """Take some more requests into account, each once, in the order in which they came.

        Args:
            requests: None that was looked at before.
            false_alarm_rate: In (0, 1), the same at all looks.
        """
        places = self.surroundings.places([redacted(one.text) for one in requests])
        self.inputs.take(places.values)
        confidences = [one.confidence for one in requests if one.confidence is not None]
        if self.confidence is not None and confidences:
            self.confidence.take(np.array(confidences)[:, None])
        self.num_requests += len(requests)
        return DriftReport(
            num_known=len(self.test_values),
            num_requests=self.num_requests,
            num_new=len(requests),
            num_looks=self.inputs.num_batches,
            false_alarm_rate=false_alarm_rate,
            evidence=math.exp(min(self.log_evidence, 700.0)),
            moved=self._moved(places, confidences),
            strangest=self._strangest(requests, places),
        )

    def _moved(self, places: Places, confidences: Sequence[float]) -> tuple[Moved, ...]:
        of_inputs = self.inputs.log_evidence_by_name
        moved = [
            _moved(name, of_inputs[name], _in_unit(name, before), _in_unit(name, now))
            for name, before, now in zip(self.inputs.names, self.test_values.T, places.values.T, strict=True)
        ]
        if self.confidence is not None:
            evidence = self.confidence.log_evidence
            moved.append(_moved(CONFIDENCE, evidence, np.array(self.test_confidences), np.array(confidences)))
        return tuple(sorted(moved, key=lambda one: -one.evidence))

    def _strangest(self, requests: Sequence[Request], places: Places) -> tuple[StrangeRequest, ...]:
        bar = float(np.quantile(self.test_distances, 0.95))
        order = np.argsort(-places.distances, kind="stable")
        return tuple(
            StrangeRequest(
                id=requests[place].id,
                text=redacted(requests[place].text),
                distance=float(places.distances[place]),
                nearest=places.nearest[place],
            )
            for place in order[:_NUM_STRANGEST].tolist()
            if places.distances[place] > bar
        )


def begin_drift_watch(
    train_texts: Sequence[str],
    test_texts: Sequence[str],
    embedder: Embedder,
    *,
    test_confidences: Sequence[float] = (),
) -> DriftWatch:
    """A watch that has seen no request yet.

    Args:
        train_texts: What the training examples ask.
        test_texts: What the test examples ask, none of which was trained on.
        embedder: What makes vectors.
        test_confidences: Of the answers to test examples; empty: they are not known, and confidence is not watched.

    Raises:
        DataError: There are too few of either.
    """
    for what, number in (("test examples", len(test_texts)), ("confidences of test examples", len(test_confidences))):
        if number < FEWEST_KNOWN and (number or what == "test examples"):
            raise DataError(
                f"expected at least {FEWEST_KNOWN} {what} to hold requests against, found {number}",
                remedy="give the test split of the study",
            )
    surroundings = Surroundings([redacted(text) for text in train_texts], embedder)
    places = surroundings.places([redacted(text) for text in test_texts])
    confidence = np.array(test_confidences, dtype=np.float64)
    return DriftWatch(
        surroundings=surroundings,
        inputs=begin_watch(surroundings.names, places.values, only_greater=[DISTANCE]),
        confidence=begin_watch([CONFIDENCE], confidence[:, None], seed=1) if len(confidence) else None,
        test_values=places.values,
        test_distances=places.distances,
        test_confidences=tuple(confidence.tolist()),
    )


def _in_unit(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.expm1(values) if name == LENGTH else values


def _moved(name: str, log_evidence: float, before: NDArray[np.float64], now: NDArray[np.float64]) -> Moved:
    return Moved(
        name=name,
        evidence=math.exp(min(log_evidence, 700.0)),
        before=float(np.median(before)),
        now=float(np.median(now)) if len(now) else None,
    )
