"""Advice as people read it: figures with their intervals, what an answer was, rungs and what to do about them."""

from __future__ import annotations

import shlex

from fettle.advice_records import Advised, Basis, Command, Given, Measurement, Rung, Unit
from fettle.study import figures
from fettle.study.economics_words import at_least, money

RUNGS = {
    Rung.PROMPT: "Prompt only",
    Rung.FEW_SHOT: "Few-shot: examples in the prompt",
    Rung.CLASSIFIER: "Classifier, no language model",
    Rung.RETRIEVAL: "Retrieval: passages in the prompt",
    Rung.TUNED: "Fine-tuned (LoRA)",
    Rung.TUNED_RETRIEVAL: "Fine-tuned, with passages",
    Rung.LARGE: "Large model, alone or behind a router",
}
ADVISED = {
    Advised.TRY_FIRST: "Try first",
    Advised.TRY: "Try",
    Advised.NOT_YET: "Not yet",
    Advised.SKIP: "Skip",
}


_LEAST_TOLD = 0.001
"""A tenth of a point."""


def figure(one: Measurement) -> str:
    """A measured value with its interval and its unit; what is counted is not said again where the title has said it.

    >>> figure(Measurement(name="n", title="training examples", value=1200.0, unit=Unit.COUNT, how="", noun="example"))
    '1,200'
    >>> figure(Measurement(name="n", title="traffic from which it pays", value=19_230.0, unit=Unit.REQUESTS_PER_DAY, how=""))
    '20,000 requests a day'
    """
    if isinstance(one.value, str):
        return one.value
    value, interval = one.value, one.interval
    match one.unit:
        case Unit.SHARE:
            return figures.percent(value) + ("" if interval is None else f" ({figures.percent_range(interval)})")
        case Unit.DIFFERENCE:
            if interval is None:
                is_tiny = 0 < value < _LEAST_TOLD
                return f"less than {_points(_LEAST_TOLD)}" if is_tiny else _points(value)
            return f"{figures.points(value)} ({figures.points_range(interval)})"
        case Unit.COUNT:
            is_told = f"{one.noun}s" in one.title
            return figures.count(value) if is_told else figures.counted(round(value), one.noun)
        case Unit.SECONDS:
            return figures.duration(value)
        case Unit.REQUESTS_PER_DAY:
            return f"{figures.count(at_least(value))} requests a day"  # from which on something pays
        case Unit.MONEY:
            return money(value, one.noun)
        case _:
            return f"{figures.significant(value, 2)} times"


def _points(value: float) -> str:
    return figures.points(value).removeprefix("+")


def basis(one: Basis) -> str:
    """What a reason rests on, with its figure.

    >>> basis(Given(name="large_model", title="may messages go to a large model", value="unknown", is_said=False))
    'may messages go to a large model: unknown (not said)'
    """
    if isinstance(one, Given):
        return f"{one.title}: {one.value}" + ("" if one.is_said else _unsaid(one))
    place = "" if one.place is None else f" [{one.place}]"
    return f"{one.title}: {figure(one)}{place}"


def _unsaid(one: Given) -> str:
    return " (not said)" if one.value == "unknown" else " (assumed)"


def command_line(one: Command) -> str:
    """As it is typed."""
    return shlex.join(one.words)


def about(seconds: float) -> str:
    """A time that is estimated."""
    if seconds < 90:
        return "a minute or so"
    if seconds < 7200:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"
