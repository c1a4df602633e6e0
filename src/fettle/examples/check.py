"""Everything there is to say about a dataset before it is used: one function per kind of finding, in `checks/`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fettle.examples.checks.labels import (
    check_json_answers,
    check_label_counts,
    check_label_spelling,
)
from fettle.examples.checks.personal import check_personal_data
from fettle.examples.checks.repeats import check_conflicts, check_duplicates
from fettle.examples.checks.size import check_count, check_lengths
from fettle.examples.checks.text import check_texts
from fettle.examples.checks.wrong_labels import check_wrong_labels
from fettle.examples.duplicates import find_leaks
from fettle.examples.notes import Note
from fettle.examples.task import recognise_task
from fettle.records import Action, Dataset, Example, Finding, Severity, Task

CHECKS = (check_count, check_lengths, check_duplicates, check_texts, check_personal_data)
"""Checks that need the examples only."""
TASK_CHECKS = (check_conflicts, check_label_spelling, check_label_counts, check_wrong_labels, check_json_answers)
"""Checks that depend on the kind of task."""
_SEVERITY_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingGroup:
    """All findings of one code, severity and action, for printing."""

    code: str
    severity: Severity
    action: Action
    findings: tuple[Finding, ...]
    """In the order of files and lines."""


def check_examples(dataset: Dataset, task: Task | None = None) -> tuple[Finding, ...]:
    """What reading found, and everything that can be noticed about the examples themselves, in the order of files and lines.

    Args:
        dataset: What `read_examples` returned.
        task: What `recognise_task` returned; None: it is recognised here.
    """
    examples = dataset.examples
    task = task or recognise_task(examples)
    found = [finding for check in CHECKS for finding in check(examples)]
    found += [finding for check in TASK_CHECKS for finding in check(examples, task)]
    return tuple(sorted((*dataset.findings, *found), key=lambda finding: (finding.file, finding.line or 0)))


def check_leaks(train: Sequence[Example], held_out: Sequence[Example], held_out_name: str) -> tuple[Finding, ...]:
    """An error for every held-out example that a training example repeats, word for word or nearly."""
    by_id = {leak.second.id: leak for leak in sorted(find_leaks(train, held_out), key=lambda leak: leak.similarity)}
    return tuple(
        Note(
            code="leak-exact" if leak.is_exact else "leak-near",
            severity=Severity.ERROR,
            action=Action.KEPT,
            message=f"this {held_out_name} example is also in training, at {leak.first.source} ({leak.similarity:.0%} alike)",
            remedy="remove one of the two; a study leaves the training example out",
        ).at(leak.second.source)
        for leak in by_id.values()
    )


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
