"""Advice in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from fettle.advice_records import Advised, Reason

if TYPE_CHECKING:
    from fettle.advice_records import Command, FirstAdvice, NextAdvice, RungAdvice

_COLOURS = {Advised.TRY_FIRST: "bold green", Advised.TRY: "green", Advised.NOT_YET: "yellow", Advised.SKIP: "dim"}


def print_first(console: Console, advice: FirstAdvice) -> None:
    """What to try before anything was run. Texts of the data are printed as they are, without markup or control characters."""
    from fettle.advice.words import basis

    _heading(console, f"{advice.name}: {advice.task.value}")
    _line(console, advice.sizes, indent=0)
    if advice.before:
        _heading(console, "First, the data")
        _reasons(console, advice.before)
    _heading(console, "The ladder")
    for one in advice.rungs:
        _rung(console, one)
    _heading(console, "What was measured, and how")
    for one in advice.measurements:
        _line(console, f"{basis(one)}; {one.how}")
    _heading(console, "Your answers")
    _line(console, "; ".join(basis(one) for one in advice.answers))
    for note in advice.notes:
        _line(console, f"Note: {note}")
    _commands(console, advice.commands)


def print_next(console: Console, advice: NextAdvice) -> None:
    """What to do after a study."""
    _heading(console, advice.name)
    _line(console, advice.headline, indent=0)
    for number, step in enumerate(advice.steps, start=1):
        _heading(console, f"{number}. {step.title}")
        _reasons(console, step.reasons)
        for command in step.commands:
            _command(console, command)


def _rung(console: Console, one: RungAdvice) -> None:
    from fettle.advice.words import ADVISED, RUNGS

    console.print(Text.assemble((f"{ADVISED[one.advised]:<10}", _COLOURS[one.advised]), (RUNGS[one.rung], "bold")))
    _reasons(console, one.reasons)
    if one.against:
        _line(console, "but:", style="dim")
        _reasons(console, one.against, style="dim")


def _reasons(console: Console, reasons: Sequence[Reason], *, style: str = "") -> None:
    from fettle.advice.words import basis

    for reason in reasons:
        _line(console, f"• {reason.text}", style=style)
        for one in reason.rests_on:
            _line(console, f"– {basis(one)}", indent=4, style=style or "cyan")


def _commands(console: Console, commands: Sequence[Command]) -> None:
    _heading(console, "Next")
    for command in commands:
        _command(console, command)


def _command(console: Console, command: Command) -> None:
    from fettle.advice.words import about, command_line

    time = "" if command.seconds is None else f"; {about(command.seconds)} on this machine"
    _line(console, f"# {command.purpose}{time}", style="dim")
    console.print(Text(f"  {_plain(command_line(command))}", style="bold"), soft_wrap=True)


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(_plain(text), style="bold underline"))


def _line(console: Console, text: str, *, indent: int = 2, style: str = "") -> None:
    console.print(Padding(Text(_plain(text), style=style), (0, 0, 0, indent)))


def _plain(text: str) -> str:
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
