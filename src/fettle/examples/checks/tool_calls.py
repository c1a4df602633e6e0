"""Wanted answers that call a tool: they can be learned from, and no grader scores them yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fettle.examples.notes import Note, warning
from fettle.records import Action, Example, Finding, Severity


def can_be_scored(example: Example) -> bool:
    """Whether the wanted answer is text; calls of tools are not compared."""
    return not example.messages[-1].tool_calls


def check_tool_calls(examples: Sequence[Example], *, fewest: int) -> Iterator[Finding]:
    """Rows whose wanted answer is a tool call; an error about the file when they leave fewer than `fewest` others."""
    calls = [example for example in examples if not can_be_scored(example)]
    for example in calls:
        text = "the wanted answer calls a tool, and such answers are not scored yet"
        yield warning("tool-call-answer", text, "leave the row out, or write the call as text").at(example.source)
    num_scored = len(examples) - len(calls)
    if calls and num_scored < fewest:
        yield Note(
            code="too-few-to-score",
            severity=Severity.ERROR,
            action=Action.KEPT,
            message=f"the wanted answers of {len(calls)} of {len(examples)} examples call a tool, and such answers are not "
            f"scored yet; of the others {fewest} are needed, and there are {num_scored}",
            remedy="give examples whose wanted answers are text, or write the calls as text",
        ).about(examples[0].source.file)
