"""Ask a person at a terminal what no option has answered."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import typer

from fettle.errors import ConfigError

if TYPE_CHECKING:
    from fettle.advice.questions import Answers, Question

_UNKNOWN = "unknown"


def ask_open_questions(before: Answers, answered: Collection[str]) -> Answers:
    """Each question that is still open, with why it is asked; Enter leaves it open, and what is no answer is asked again.

    Args:
        before: What was answered.
        answered: Names of the questions that need not be asked.
    """
    from fettle.advice.questions import QUESTIONS

    open_questions = [one for one in QUESTIONS if one.name not in answered]
    if open_questions:
        typer.echo("A few questions; Enter where you do not know. Options or --answers FILE answer them beforehand.\n")
    for one in open_questions:
        before = _ask(one, before)
    if open_questions:
        typer.echo("")
    return before


def _ask(one: Question, before: Answers) -> Answers:
    from fettle.advice.questions import with_answers

    choices = "a number" if one.is_number else "yes, no"
    while True:
        said = typer.prompt(f"{one.text}\n  {one.why}\n  [{choices}]", default=_UNKNOWN, show_default=True)
        if one.is_number and said.strip().lower() == _UNKNOWN:
            return before
        try:
            return with_answers(before, {one.name: said}, where="your answer")
        except ConfigError as error:
            typer.echo(f"{error.problem}; {error.remedy}.")
