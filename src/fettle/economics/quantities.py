"""All numbers that costs are worked out from, as ranges, and drawn from these ranges.

Letter: D draws. The best guess is a draw of its own (D = 1), so that one calculation serves both.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fettle.economics_records import Range

Numbers = NDArray[np.float64]
"""[D]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that is uncertain about money, prices found. Units are in the names; shares are in [0, 1]."""

    requests_per_day: Range
    busy_hours_per_day: Range
    busy_share: Range
    cached_share: Range
    price_per_training_hour: Range
    price_per_serving_hour: Range
    hosted_hours_per_day: Range
    busy_at_most: Range
    wage_per_hour: Range
    share_checked: Range
    minutes_per_check: Range
    share_caught: Range
    labelling_minutes_per_example: Range
    cost_per_wrong_answer: Range
    value_per_right_answer: Range
    retrainings_per_year: Range
    new_examples_per_retraining: Range
    price_per_million_input_tokens: Range
    price_per_million_cached_input_tokens: Range
    price_per_million_output_tokens: Range
    bills_idle: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantities:
    """One value of each for each draw; names as in `Situation`."""

    requests_per_day: Numbers
    busy_hours_per_day: Numbers
    busy_share: Numbers
    cached_share: Numbers
    price_per_training_hour: Numbers
    price_per_serving_hour: Numbers
    hosted_hours_per_day: Numbers
    busy_at_most: Numbers
    wage_per_hour: Numbers
    share_checked: Numbers
    minutes_per_check: Numbers
    share_caught: Numbers
    labelling_minutes_per_example: Numbers
    cost_per_wrong_answer: Numbers
    value_per_right_answer: Numbers
    retrainings_per_year: Numbers
    new_examples_per_retraining: Numbers
    price_per_million_input_tokens: Numbers
    price_per_million_cached_input_tokens: Numbers
    price_per_million_output_tokens: Numbers
    bills_idle: bool


def best_guess(situation: Situation) -> Quantities:
    """The middle of every range, D = 1."""
    values = {name: np.array([value.best], dtype=np.float64) for name, value in _ranges(situation)}
    return Quantities(bills_idle=situation.bills_idle, **values)


def drawn(situation: Situation, num_draws: int, rng: np.random.Generator) -> Quantities:
    """Draws from the triangular distribution over each range, independent of each other."""
    values = {name: _draw(value, num_draws, rng) for name, value in _ranges(situation)}
    return Quantities(bills_idle=situation.bills_idle, **values)


def _ranges(situation: Situation) -> list[tuple[str, Range]]:
    values = ((field.name, getattr(situation, field.name)) for field in fields(situation))
    return [(name, value) for name, value in values if isinstance(value, Range)]


def _draw(value: Range, num_draws: int, rng: np.random.Generator) -> Numbers:
    if value.is_known:
        return np.full(num_draws, value.best, dtype=np.float64)
    return rng.triangular(value.low, value.best, value.high, num_draws)
