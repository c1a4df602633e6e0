"""What a rule of advice looks at, and what it says; the figures at which rules change their minds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fettle.advice.measured import Measured
from fettle.advice.questions import Answers
from fettle.advice_records import Advised, Basis, Given, Reason

FEW_PER_LABEL = 5
"""Training examples of a label below which neither a classifier nor a check of labels knows it (`examples.checks`)."""
LARGEST_USEFUL_DIFFERENCE = 0.25
"""Where the test split finds only differences beyond this, hardly any true gain of tuning would be seen."""
HARDLY_IN_DOCUMENTS, MOSTLY_IN_DOCUMENTS = 0.2, 0.5
"""Share of the questions whose answer is found: below the first, searching cannot help; above the second it is obvious."""
MOSTLY_RIGHT = 0.5
"""A classifier beyond this is worth trying before anything that takes more."""
MUCH_NOISE = 0.05
"""Share of doubtful labels beyond which a verdict about a few points says more about the labels than about a model. The check is
a careful one: it finds a part of the wrong labels."""
LOW_CONSISTENCY = 0.7
"""Where near-duplicates agree less than this, nobody can learn what is wanted."""
A_FEW = 0.01
"""Share of the examples below which a finding is not worth a step of its own."""
SOME_ABSENT = 0.05
"""Share of unanswerable questions from which on a model has to learn to say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the rules look at."""

    measured: Measured
    answers: Answers
    given: Mapping[str, Given]
    """The answers as reasons cite them, by question."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one rule says about one rung."""

    advised: Advised
    reason: Reason


Rule = Callable[[Case], Opinion | None]


def say(advised: Advised, text: str, *rests_on: Basis | None) -> Opinion:
    """An opinion with what it rests on; None: what was not measured or said is left out."""
    return Opinion(advised, Reason(text=text, rests_on=tuple(one for one in rests_on if one is not None)))
