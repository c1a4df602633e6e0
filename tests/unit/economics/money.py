"""Situations and contenders for the tests of economics, with round numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fettle.economics.break_even import Drawing, Side
from fettle.economics.costs import Taken
from fettle.economics.quantities import Situation, best_guess, drawn
from fettle.economics_records import Range, exactly

NONE = exactly(0.0)

SITUATION = Situation(
    requests_per_day=exactly(10_000),
    busy_hours_per_day=exactly(10),
    busy_share=exactly(0.9),
    cached_share=NONE,
    price_per_training_hour=exactly(3.0),
    price_per_serving_hour=exactly(0.5),
    hosted_hours_per_day=exactly(24),
    busy_at_most=exactly(0.5),
    wage_per_hour=NONE,
    share_checked=NONE,
    minutes_per_check=NONE,
    share_caught=exactly(1.0),
    labelling_minutes_per_example=NONE,
    cost_per_wrong_answer=NONE,
    value_per_right_answer=NONE,
    retrainings_per_year=NONE,
    new_examples_per_retraining=NONE,
    price_per_million_input_tokens=exactly(2.0),
    price_per_million_cached_input_tokens=exactly(0.5),
    price_per_million_output_tokens=exactly(8.0),
    bills_idle=True,
)
"""10,000 requests a day at half a dollar a machine hour: a hosted machine is 12 a day."""

TUNED = Taken(
    contender="tuned",
    seconds_per_request=1.0,
    training_seconds=7200.0,
    num_labelled_examples=600,
    num_test_requests=0,
)
LARGE = Taken(
    contender="remote", is_elsewhere=True, prompt_tokens_per_request=500.0, completion_tokens_per_request=100.0
)
PROMPT = Taken(contender="prompt", seconds_per_request=1.0)


def said(**changes: float | Range) -> Situation:
    """The situation with other values."""
    return replace(
        SITUATION,
        **{name: exactly(value) if isinstance(value, int | float) else value for name, value in changes.items()},
    )


def side(taken: Taken, right_share: float = 0.8, num_draws: int = 2) -> Side:
    """A contender whose share of right answers is known."""
    return Side(taken=taken, right_share=np.array([right_share]), right_shares=np.full(num_draws, right_share))


def drawing(situation: Situation, *, num_draws: int = 2, seed: int = 0, horizon_days: int = 365) -> Drawing:
    """The best guess, and draws."""
    rng = np.random.default_rng(seed)
    return Drawing(
        best=best_guess(situation), drawn=drawn(situation, num_draws, rng), seed=seed, horizon_days=horizon_days
    )
