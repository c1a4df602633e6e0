"""What is asked of the user, and the answers: of the command line, of a file, or of a person at a terminal."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from fettle.advice_records import Given
from fettle.economics_records import Assumptions, Origin, Range, exactly
from fettle.errors import ConfigError
from fettle.study.economics_words import money, range_text


class Said(StrEnum):
    """An answer to a question that can be answered by yes or no."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the user has said; None and `unknown`: nothing."""

    knowledge_changes: Said = Said.UNKNOWN
    """Whether what answers have to know changes, faster than a model would be tuned again."""
    format_is_the_problem: Said = Said.UNKNOWN
    """Whether a prompted model knows what to answer, and gets the form or the tone wrong."""
    large_model: Said = Said.UNKNOWN
    """Whether messages may be sent to a large model behind an endpoint."""
    requests_per_day: float | None = None
    latency_seconds: float | None = None
    """Longest acceptable time of one answer."""
    cost_per_wrong_answer: float | None = None
    """In the user's currency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and why."""

    name: str
    """Of its field in `Answers`."""
    title: str
    text: str
    why: str
    is_number: bool = False


QUESTIONS = (
    Question(
        name="knowledge_changes",
        title="does the knowledge change",
        text="Do the facts that answers need change within weeks (prices, stock, rules)?",
        why="Facts that change belong in documents; a tuned model would have to be trained again.",
    ),
    Question(
        name="format_is_the_problem",
        title="is the form the problem",
        text="Does a prompted model know what to answer, and get the form or the tone wrong?",
        why="Form and tone are what tuning teaches best, and from few examples.",
    ),
    Question(
        name="large_model",
        title="may messages go to a large model",
        text="May messages be sent to a large model behind an endpoint?",
        why="If so, it is one more contender, and a router can send it only the hard requests.",
    ),
    Question(
        name="requests_per_day",
        title="requests a day",
        text="How many requests a day will there be?",
        why="A machine that waits is paid for: with few requests a price per token is cheaper.",
        is_number=True,
    ),
    Question(
        name="latency_seconds",
        title="longest acceptable answer time",
        text="How many seconds may one answer take?",
        why="A model on a small machine, or a prompt with many examples, may be too slow.",
        is_number=True,
    ),
    Question(
        name="cost_per_wrong_answer",
        title="cost of a wrong answer",
        text="What does a wrong answer cost you, in your currency?",
        why="Against a prompt to the same model, tuning pays by fewer wrong answers alone.",
        is_number=True,
    ),
)
"""In the order in which they are asked."""
_YES_OR_NO = {True: Said.YES, False: Said.NO}


def question(name: str) -> Question:
    """The question of that name."""
    return next(one for one in QUESTIONS if one.name == name)


def read_answers(path: Path, before: Answers | None = None) -> Answers:
    """What a TOML file answers, over what was answered before.

    Raises:
        ConfigError: It cannot be read, or answers something that is not asked, or in another way.
    """
    try:
        said = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the answers here ({error})", where=str(path), remedy="name a TOML file (docs/advise.md)"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is no TOML ({error})", where=str(path), remedy="mend that line") from error
    return with_answers(before or Answers(), said, where=str(path))


def with_answers(before: Answers, said: Mapping[str, Any], *, where: str) -> Answers:
    """The answers with some more of them; texts such as a person types are read too.

    Raises:
        ConfigError: One is no answer to its question, or to none.

    >>> with_answers(Answers(), {"knowledge_changes": "Yes", "requests_per_day": "2000"}, where="here").requests_per_day
    2000.0
    """
    names = [one.name for one in QUESTIONS]
    changes: dict[str, Said | float] = {}
    for name, value in said.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise ConfigError(
                f"nothing called `{name}` is asked{meant}", where=where, remedy=f"it is {', '.join(names)}"
            )
        place = f"{where}: {name}"
        changes[name] = _number(value, where=place) if question(name).is_number else _said(value, where=place)
    return dataclasses.replace(before, **changes)


def _said(value: Any, *, where: str) -> Said:
    if isinstance(value, bool):
        return _YES_OR_NO[value]
    text = str(value).strip().lower()
    short = {"y": "yes", "n": "no", "u": "unknown", "": "unknown"}
    try:
        return Said(short.get(text, text))
    except ValueError:
        raise ConfigError(
            f"expected yes, no or unknown, and it is {value!r}", where=where, remedy="write one of the three"
        ) from None


def _number(value: Any, *, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ConfigError(
            f"expected a number above 0, and it is {value!r}", where=where, remedy="write one such as 2000 or 0.5"
        )
    return number


def with_money(answers: Answers, before: Assumptions) -> Assumptions:
    """What is said of money, with the answers over it."""
    traffic, worth = before.traffic, before.worth
    if answers.requests_per_day is not None:
        traffic = dataclasses.replace(traffic, requests_per_day=exactly(answers.requests_per_day))
    if answers.cost_per_wrong_answer is not None:
        worth = dataclasses.replace(worth, cost_per_wrong_answer=exactly(answers.cost_per_wrong_answer))
    return dataclasses.replace(before, traffic=traffic, worth=worth)


def given_answers(answers: Answers, said: Assumptions) -> dict[str, Given]:
    """Every question with its answer, by its name.

    Args:
        answers: What was answered.
        said: What is said of money, the answers over it: it answers two of them.
    """
    traffic, cost = said.traffic.requests_per_day, said.worth.cost_per_wrong_answer
    latency = answers.latency_seconds
    values = {
        "knowledge_changes": (answers.knowledge_changes.value, answers.knowledge_changes is not Said.UNKNOWN),
        "format_is_the_problem": (
            answers.format_is_the_problem.value,
            answers.format_is_the_problem is not Said.UNKNOWN,
        ),
        "large_model": (answers.large_model.value, answers.large_model is not Said.UNKNOWN),
        "requests_per_day": (range_text(traffic), _is_said(traffic)),
        "latency_seconds": ("unknown" if latency is None else f"{latency:g} s", latency is not None),
        "cost_per_wrong_answer": (money(cost.best, said.currency) if _is_said(cost) else "unknown", _is_said(cost)),
    }
    return {
        one.name: Given(name=one.name, title=one.title, value=values[one.name][0], is_said=values[one.name][1])
        for one in QUESTIONS
    }


def _is_said(value: Range) -> bool:
    return value.origin is Origin.SAID
