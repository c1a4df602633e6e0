"""Examples that say what another one says already, and examples that contradict each other."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from fettle.examples.duplicates import comparable_text, find_duplicates, plain_label, plain_words
from fettle.examples.json_schema import parse_object
from fettle.examples.notes import place_from, warning
from fettle.examples.task import MAX_LABEL_CHARACTERS
from fettle.records import Example, Finding, Task, TaskKind


def check_duplicates(examples: Sequence[Example]) -> Iterator[Finding]:
    """Inputs that repeat an earlier one, word for word or nearly. They are kept: a split keeps them together."""
    for pair in find_duplicates(examples):
        first = place_from(pair.second.source, pair.first.source)
        if pair.is_exact:
            note = warning(
                "exact-duplicate",
                f"asks the same as {first}",
                "keep one of them; --fix does if the answers agree",
            )
        else:
            text = f"asks nearly the same as {first} ({pair.similarity:.0%} alike)"
            note = warning("near-duplicate", text, "keep both only if both really came in; they stay in one split")
        yield note.at(pair.second.source)


def check_conflicts(examples: Sequence[Example], task: Task) -> Iterator[Finding]:
    """The same input with another answer than the usual one. Different wordings of a free-text reply are no conflict."""
    if task.kind is TaskKind.TEXT:
        return
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[comparable_text(example)].append(example)
    for group in groups.values():
        answers = Counter(comparable_answer(example.answer) for example in group)
        if len(answers) == 1:
            continue
        usual = max(answers, key=lambda answer: answers[answer])  # the earliest among equals
        first = next(example for example in group if comparable_answer(example.answer) == usual)
        for example in group:
            if comparable_answer(example.answer) != usual:
                place = place_from(example.source, first.source)
                text = f"answers {_short(example)}, where {place} answers {_short(first)} to the same input"
                yield warning("conflicting-answers", text, "decide which answer is right").at(example.source)


def comparable_answer(answer: str) -> str:
    """An answer without what does not matter: spelling of a label, order of keys and spaces of JSON.

    >>> comparable_answer("Pin_Blocked ") == comparable_answer("pin blocked")
    True
    """
    value = parse_object(answer)
    if value is not None:
        return json.dumps(value, sort_keys=True)
    is_short = len(answer) <= MAX_LABEL_CHARACTERS
    return plain_label(answer) if is_short else plain_words(answer) or answer.strip()


def _short(example: Example) -> str:
    answer = example.answer.strip()
    return repr(answer if len(answer) <= 60 else f"{answer[:59]}…")
