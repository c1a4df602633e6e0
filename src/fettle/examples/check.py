"""Everything there is to say about the user's files before they are used: one function per kind of finding, in `checks/`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations, islice

from fettle.examples.checks.labels import (
    check_json_answers,
    check_label_counts,
    check_label_spelling,
    check_untaught_labels,
)
from fettle.examples.checks.personal import check_personal_data
from fettle.examples.checks.repeats import check_conflicts, check_duplicates
from fettle.examples.checks.size import check_count, check_lengths
from fettle.examples.checks.task_kind import check_task_kind
from fettle.examples.checks.text import check_texts
from fettle.examples.checks.tool_calls import check_tool_calls
from fettle.examples.checks.wrong_labels import check_wrong_labels
from fettle.examples.contexts import with_contexts
from fettle.examples.duplicates import find_leaks, find_quoted, find_shared_groups, find_told
from fettle.examples.notes import Note
from fettle.examples.split import MIN_EXAMPLES, MIN_TRAINING_EXAMPLES
from fettle.examples.task import recognise_task
from fettle.records import Action, Dataset, Example, Finding, Location, Severity, Task

CHECKS = (check_lengths, check_duplicates, check_texts, check_personal_data)
"""Checks that need the examples only."""
TASK_CHECKS = (check_conflicts, check_label_spelling, check_wrong_labels, check_json_answers, check_task_kind)
"""Checks that depend on the kind of task."""
_SEVERITY_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


class Part(StrEnum):
    """What the examples of a file are for."""

    WHOLE = "whole"
    """To be split: the held-out parts are cut from them."""
    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"


_FEWEST = {Part.WHOLE: MIN_EXAMPLES, Part.TRAINING: MIN_TRAINING_EXAMPLES}
_FEWEST_SCORED = {Part.WHOLE: MIN_EXAMPLES, Part.TRAINING: 0, Part.VALIDATION: 1, Part.TEST: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingGroup:
    """All findings of one code, severity and action, for printing."""

    code: str
    severity: Severity
    action: Action
    findings: tuple[Finding, ...]
    """In the order of files and lines."""


def together(parts: Mapping[Part, Dataset]) -> dict[Part, Dataset]:
    """The user's own files, their system messages judged over all of them (`examples.contexts`)."""
    joined = iter(with_contexts([example for dataset in parts.values() for example in dataset.examples]))
    return {
        part: replace(dataset, examples=tuple(islice(joined, len(dataset.examples)))) for part, dataset in parts.items()
    }


def check_parts(parts: Mapping[Part, Dataset], task: Task) -> tuple[Finding, ...]:
    """What there is to say about each file, then what they share: leaks, and labels that are asked for and never taught.

    Args:
        parts: Training examples and at least one held-out part, or the whole alone.
        task: What `recognise_task` said of the training examples.
    """
    found = [finding for part, dataset in parts.items() for finding in check_examples(dataset, task, part)]
    given = [part for part in (Part.TRAINING, Part.VALIDATION, Part.TEST) if part in parts]
    for earlier, later in combinations(given, 2):
        found += check_leaks(parts[earlier].examples, parts[later].examples, earlier, later)
        if earlier is Part.TRAINING:
            found += check_untaught_labels(parts[earlier].examples, parts[later].examples, task)
    return tuple(found)


def check_examples(dataset: Dataset, task: Task | None = None, part: Part = Part.WHOLE) -> tuple[Finding, ...]:
    """What reading found, and everything that can be noticed about the examples themselves, in the order of files and lines.

    Args:
        dataset: What `read_examples` returned.
        task: What `recognise_task` returned; None: it is recognised here.
        part: What the examples are for: how many there must be depends on it.
    """
    examples = dataset.examples
    task = task or recognise_task(examples)
    found = [finding for check in CHECKS for finding in check(examples)]
    found += [finding for check in TASK_CHECKS for finding in check(examples, task)]
    found += check_tool_calls(examples, fewest=_FEWEST_SCORED[part])
    if part in _FEWEST:
        found += [*check_count(examples, fewest=_FEWEST[part]), *check_label_counts(examples, task)]
    return tuple(sorted((*dataset.findings, *found), key=lambda finding: (finding.file, finding.line or 0)))


def check_leaks(
    earlier: Sequence[Example], later: Sequence[Example], earlier_part: Part, later_part: Part
) -> tuple[Finding, ...]:
    """An error for every example of the later part that one of the earlier part repeats or shares a group with."""
    remedy = f"remove one of the two; a study leaves out what {earlier_part} shares"
    leaks = sorted(find_leaks(earlier, later), key=lambda leak: (leak.is_exact, leak.similarity))
    closest = {leak.second.source: leak for leak in leaks}
    found = [
        Note(
            code="leak-exact" if leak.is_exact else "leak-near",
            severity=Severity.ERROR,
            action=Action.KEPT,
            message=f"this {later_part} example is also in {earlier_part}, at {leak.first.source} ({leak.similarity:.0%} alike)",
            remedy=remedy,
        ).at(leak.second.source)
        for leak in closest.values()
    ]
    told: dict[Location, Example] = {}
    for teller, example in find_told(earlier, later):
        told.setdefault(example.source, teller)
    found += [
        Note(
            code="leak-turn",
            severity=Severity.ERROR,
            action=Action.KEPT,
            message=f"question and answer of this {later_part} example are an earlier turn in {earlier_part}, at {teller.source}",
            remedy=remedy,
        ).at(place)
        for place, teller in told.items()
        if place not in closest
    ]
    quoted: dict[Location, Example] = {}
    for teller, example in find_quoted(earlier, later):
        quoted.setdefault(example.source, teller)
    found += [
        Note(
            code="leak-quote",
            severity=Severity.ERROR,
            action=Action.KEPT,
            message=f"the question of this {later_part} example stands word for word in {earlier_part}, at {teller.source}",
            remedy=remedy,
        ).at(place)
        for place, teller in quoted.items()
        if place not in closest and place not in told
    ]
    sizes = Counter(example.group for example in earlier)
    found += [
        Note(
            code="leak-group",
            severity=Severity.ERROR,
            action=Action.KEPT,
            message=f"this {later_part} example is of the group {example.group!r}, of which {earlier_part} holds "
            f"{sizes[example.group]:,}, the first at {other.source}",
            remedy=remedy,
        ).at(example.source)
        for example, other in find_shared_groups(later, earlier)
        if example.source not in closest and example.source not in told and example.source not in quoted
    ]
    return tuple(found)


def summarise_findings(findings: Iterable[Finding]) -> tuple[FindingGroup, ...]:
    """The findings grouped by what they say: errors first, then the most frequent."""
    groups: dict[tuple[str, Severity, Action], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.code, finding.severity, finding.action].append(finding)
    summary = [
        FindingGroup(code=code, severity=severity, action=action, findings=tuple(members))
        for (code, severity, action), members in groups.items()
    ]
    return tuple(sorted(summary, key=lambda group: (_SEVERITY_ORDER[group.severity], -len(group.findings), group.code)))
