"""What can be mended without a person: characters, markup, white space, spellings of labels, repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fettle.errors import DataError
from fettle.examples.checks.labels import usual_spellings
from fettle.examples.checks.repeats import comparable_answer
from fettle.examples.duplicates import comparable_text
from fettle.examples.json_schema import parse_object
from fettle.examples.mend import mend_characters, mend_formula, mend_html, mend_space
from fettle.examples.notes import Note, place_from
from fettle.examples.row_formats.turns import is_blank
from fettle.examples.task import recognise_task
from fettle.records import Action, Dataset, Example, Finding, Message, Severity, Task, TaskKind

_INPUT_STEPS: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("control-characters", "control characters or double encoding", mend_characters),
    ("html", "HTML", mend_html),
    ("formula-escape", "a spreadsheet's apostrophe", mend_formula),
    ("white-space", "stray white space", mend_space),
)
# Answers are what is learned: their markup and inner white space may be the house style.
_ANSWER_STEPS = (_INPUT_STEPS[0], ("white-space", "stray white space", str.strip))


def fix_examples(dataset: Dataset, task: Task | None = None) -> tuple[Dataset, tuple[Finding, ...]]:
    """The dataset with everything mended that has only one sensible repair, and a finding for each change.

    Inputs lose control characters, double encoding, HTML, stray white space and spreadsheets' apostrophes; answers lose control
    characters, double encoding and space at their ends. Unusual spellings of a label become the usual one. Of examples with the
    same input and the same answer, without case, white space and punctuation, the first is kept.

    Args:
        dataset: What `read_examples` returned.
        task: What `recognise_task` returned; None: it is recognised here.

    Raises:
        DataError: Nothing is left.
    """
    task = task or recognise_task(dataset.examples)
    examples, findings = _mend_texts(dataset.examples)
    if task.kind is TaskKind.LABELS:
        examples, more = _unify_labels(examples)
        findings += more
    examples, more = _drop_repeats(examples)
    findings += more
    if not examples:
        raise DataError("nothing is left after mending", where=dataset.name, remedy="the inputs hold markup only")
    return replace(dataset, examples=tuple(examples), findings=(*dataset.findings, *findings)), tuple(findings)


def _mend_texts(examples: Sequence[Example]) -> tuple[list[Example], list[Finding]]:
    kept: list[Example] = []
    findings: list[Finding] = []
    for example in examples:
        mended = [_mend_message(message) for message in example.messages]
        messages = tuple(message for message, _ in mended)
        if (
            is_blank("".join(message.content for message in messages[:-1] if message.role == "user"))
            and example.input_text
        ):
            note = _note("empty-input", "nothing is left of the input without its markup", Action.LEFT_OUT)
            findings.append(note.at(example.source))
            continue
        changes = dict.fromkeys(change for _, changed in mended for change in changed)
        findings += [_note(code, f"{name} removed", Action.REPAIRED).at(example.source) for code, name in changes]
        kept.append(replace(example, messages=messages) if changes else example)
    return kept, findings


def _mend_message(message: Message) -> tuple[Message, list[tuple[str, str]]]:
    """The message, and (code, name) of every step that changed it."""
    if message.role not in ("user", "assistant"):
        return message, []
    is_json = message.role == "assistant" and parse_object(message.content) is not None
    content = message.content
    changes: list[tuple[str, str]] = []
    for code, name, step in () if is_json else _INPUT_STEPS if message.role == "user" else _ANSWER_STEPS:
        mended = step(content)
        if mended != content:
            content = mended
            changes.append((code, name))
    return (replace(message, content=content) if changes else message), changes


def _unify_labels(examples: Sequence[Example]) -> tuple[list[Example], list[Finding]]:
    usual = usual_spellings(examples)
    unified: list[Example] = []
    findings: list[Finding] = []
    for example in examples:
        if example.answer in usual:
            text = f"label {example.answer!r} became {usual[example.answer]!r}"
            findings.append(_note("label-spelling", text, Action.REPAIRED).at(example.source))
            answer = replace(example.messages[-1], content=usual[example.answer])
            example = replace(example, messages=(*example.prompt, answer))  # noqa: PLW2901 -- the mended one goes on
        unified.append(example)
    return unified, findings


def _drop_repeats(examples: Sequence[Example]) -> tuple[list[Example], list[Finding]]:
    first_by_content: dict[tuple[str, ...], Example] = {}
    findings: list[Finding] = []
    for example in examples:
        instructions = [message.content for message in example.prompt if message.is_system]
        calls = [f"{call.name} {call.arguments}" for call in example.messages[-1].tool_calls]
        content = (comparable_text(example), comparable_answer(example.answer), *instructions, *calls)
        first = first_by_content.setdefault(content, example)
        if first is not example:
            text = f"repeats {place_from(example.source, first.source)}, with the same answer"
            findings.append(_note("exact-duplicate", text, Action.LEFT_OUT).at(example.source))
    return list(first_by_content.values()), findings


def _note(code: str, message: str, action: Action) -> Note:
    return Note(code=code, severity=Severity.INFO, action=action, message=message, remedy="nothing to do")
