"""Which share of all requests a contender answers rightly: what counts as right, how sure it is, and draws of it.

Letters: n test rows, G clusters, C contenders, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fettle.economics.quantities import Numbers
from fettle.records import Interval
from fettle.report_records import AnswerRow
from fettle.statistics.intervals import TIE, mean_interval

_PRIOR = 0.5
"""Weight of one imaginary right answer, and of one wrong one: without them 30 right answers of 30 would leave no doubt."""
_DRAWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RightAnswers:
    """What one contender got right."""

    contender: str
    values: tuple[float, ...]
    """For each request that counts, the share of its answer that is right, in [0, 1]."""
    clusters: tuple[int, ...]
    """Of these requests."""

    def interval(self) -> Interval:
        """Share of all requests."""
        return mean_interval(self.values, self.clusters)


def right_answers(rows: Sequence[AnswerRow], contender: str, from_score: float | None) -> RightAnswers | None:
    """What a contender got right on the test rows; None: nothing could be scored.

    A request that failed is asked and not answered rightly. An answer that could not be scored is left out: nobody knows.

    Args:
        rows: Of the report.
        contender: Its name.
        from_score: The score from which on an answer is right; None: the score is the share that is right.
    """
    values, clusters = [], []
    for place, row in enumerate(rows):
        if contender in row.errors:
            value = 0.0
        else:
            score = row.scores.get(contender)
            if score is None:
                continue
            value = score if from_score is None else float(score >= from_score - TIE)
        values.append(value)
        clusters.append(place if row.cluster is None else row.cluster)
    return RightAnswers(contender=contender, values=tuple(values), clusters=tuple(clusters)) if values else None


def right_meaning(rows: Sequence[AnswerRow], metric: str, from_score: float | None) -> str:
    """What counts as a right answer, in a sentence.

    Args:
        rows: Of the report.
        metric: The primary metric, as people read it.
        from_score: As in `right_answers`.
    """
    if from_score is not None:
        return f"An answer counts as right from a score ({metric}) of {100 * from_score:g}\N{NO-BREAK SPACE}% on."
    scores = (score for row in rows for score in row.scores.values() if score is not None)
    if all(min(abs(score), abs(1 - score)) < TIE for score in scores):
        return f"An answer is right or wrong ({metric})."
    return (
        f"Scores ({metric}) lie between 0 and 100\N{NO-BREAK SPACE}%, and an answer counts as right to that share: two answers of "
        "50\N{NO-BREAK SPACE}% are one right answer. Whether that is true for your task is for you to say "
        "(worth.right_from_score)."
    )


def drawn_right_shares(answers: Sequence[RightAnswers], num_draws: int, rng: np.random.Generator) -> dict[str, Numbers]:
    """Draws of all contenders' shares at once, so that what they find hard together stays together.

    A Bayesian bootstrap over clusters: each gets a weight from the exponential distribution, the same for all contenders, and an
    imaginary right and wrong answer one from Gamma(1/2).

    Source: Rubin, Annals of Statistics 9 (1981), 130-134; the imaginary answers are Jeffreys' prior for a share.
    """
    known = sorted({cluster for one in answers for cluster in one.clusters})
    place = {cluster: i for i, cluster in enumerate(known)}
    right_GC, asked_GC = np.zeros((2, len(known), len(answers)))
    for column, one in enumerate(answers):
        places = [place[cluster] for cluster in one.clusters]
        np.add.at(right_GC[:, column], places, one.values)
        np.add.at(asked_GC[:, column], places, 1.0)
    parts = []
    for start in range(0, num_draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, num_draws - start)
        weights_DG = rng.standard_exponential((size, len(known)))
        right_D1, wrong_D1 = rng.standard_gamma(_PRIOR, (2, size, 1))
        parts.append((weights_DG @ right_GC + right_D1) / (weights_DG @ asked_GC + right_D1 + wrong_D1))
    shares_DC = np.concatenate(parts)
    return {one.contender: shares_DC[:, column] for column, one in enumerate(answers)}
