"""Does the server answer as the study did, and soon enough? From test examples that its engine answers again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from fettle.records import Interval
from fettle.releases.gates.gate import Found, GateInputs, held_against, not_measured, percents
from fettle.statistics.intervals import wilson

_PERCENTILE = 0.95
_NO_BOUND = math.nextafter(math.inf, 0)
"""What stands for an end that the data do not bound: JSON has no infinity."""


def parity(inputs: GateInputs) -> Found:
    """The share of answers that are the study's, word for word.

    That the engine has answered at all shows more: it holds an adapter against PEFT's own layers on prompts of the training, and
    refuses another base model or another chat template than the adapter was trained with (`answering.start_up_check`).
    """
    again = {one.row.example_id: one for one in inputs.answered_again}.values()  # some may have been asked twice
    if not again:
        return not_measured(f"the serving engine has not answered: {inputs.not_answered}")
    num_same = sum(one.text == one.row.answers.get(inputs.contender) for one in again)
    share, bound = wilson(num_same, len(again)), inputs.settings.parity.lowest_same_share
    sentence = (
        f"{num_same} of {len(again)} answers of the serving engine are the study's word for word, {percents(share)}; all of the "
        f"interval must be above {bound:.0%}"
    )
    if inputs.released.kind.shows_passages:
        num_shown = sum(one.passages == one.row.passages.get(inputs.contender, ()) for one in again)
        sentence += f". {num_shown} of them were shown the study's passages"
    return held_against(share, bound, is_right=share.low > bound, sentence=sentence)


def latency(inputs: GateInputs) -> Found:
    """The 95th percentile of one request at a time."""
    seconds = [one.seconds for one in inputs.answered_again]
    if not seconds:
        return not_measured(f"the serving engine has not answered: {inputs.not_answered}")
    found, bound = percentile_interval(seconds, _PERCENTILE), inputs.settings.latency.most_seconds_p95
    if found.high >= _NO_BOUND:
        return not_measured(f"{len(seconds)} answers cannot bound the 95th percentile: parity.num_answers of 59 can")
    sentence = (
        f"95 of 100 requests take at most {found.estimate:.3g} seconds ({found.low:.3g} to {found.high:.3g}, {len(seconds)} "
        f"requests, one at a time); all of the interval must be below {bound:g}"
    )
    return held_against(found, bound, is_right=found.high < bound, sentence=sentence)


def percentile_interval(values: Sequence[float], share: float, *, level: float = 0.95) -> Interval:
    """A percentile with an interval between two of the sorted values, whatever the distribution.

    The upper end is one that the percentile exceeds with a probability of at most 1 - `level`, as it is what a gate looks at. Where
    so few values cannot bound it (fewer than 59 at 95 %), it is the largest float.

    Source: Conover 1999, "Practical Nonparametric Statistics", section 3.2 (order statistics).

    >>> percentile_interval([1.0] * 60, 0.95).high
    1.0
    """
    ordered = sorted(values)
    count = len(ordered)
    estimate = ordered[min(count - 1, math.ceil(share * count) - 1)]
    # P(quantile <= k-th smallest) = P(Binomial(count, share) <= k - 1), at least `level` for the smallest such k.
    place = int(stats.binom.ppf(level, count, share)) + 1
    high = ordered[place - 1] if place <= count else _NO_BOUND
    below = int(stats.binom.ppf((1 - level) / 2, count, share))
    low = ordered[below - 1] if below >= 1 else 0.0
    return Interval(estimate=estimate, low=min(low, estimate), high=high, level=level, method="order statistics")
