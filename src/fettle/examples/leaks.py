"""What a part may not hold because a later part holds it: found, left out, and said."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.examples.duplicates import DuplicatePair, find_leaks, find_quoted, find_shared_groups, find_told
from fettle.examples.notes import left_out
from fettle.records import Example, Finding


def without_leaks(
    examples: Sequence[Example], held_out: Sequence[Example], name: str
) -> tuple[Sequence[Example], list[Finding]]:
    """The examples that neither ask, tell nor quote what `held_out` asks, nor share a group with it; and an error for each other.

    Args:
        examples: Those of a part that is learned from, or chosen by.
        held_out: Those of a later part, of which none is left out.
        name: What the later part is called.
    """
    closest: dict[str, DuplicatePair] = {}
    for leak in find_leaks(examples, held_out):
        before = closest.get(leak.first.id)
        if before is None or (leak.is_exact, leak.similarity) > (before.is_exact, before.similarity):
            closest[leak.first.id] = leak
    findings = [_leak_finding(leak, name) for leak in closest.values()]
    told = {e.id: other for e, other in reversed(find_told(examples, held_out)) if e.id not in closest}
    findings += [_told_finding(example, told[example.id], name) for example in examples if example.id in told]
    quoting = {e.id: other for e, other in reversed(find_quoted(examples, held_out)) if e.id not in {*closest, *told}}
    findings += [_quote_finding(example, quoting[example.id], name) for example in examples if example.id in quoting]
    known = {*closest, *told, *quoting}
    grouped = {e.id: other for e, other in find_shared_groups(examples, held_out) if e.id not in known}
    findings += [_group_finding(example, grouped[example.id], name) for example in examples if example.id in grouped]
    return [example for example in examples if example.id not in {*known, *grouped}], findings


def _leak_finding(leak: DuplicatePair, name: str) -> Finding:
    how = "repeats" if leak.is_exact else f"is nearly the same ({leak.similarity:.0%}) as"
    return left_out(
        "leak-exact" if leak.is_exact else "leak-near",
        f"{how} the {name} example at {leak.second.source}",
        f"keep each question in one part only; it was left out here and kept in the {name} part",
    ).at(leak.first.source)


def _told_finding(example: Example, other: Example, name: str) -> Finding:
    return left_out(
        "leak-turn",
        f"holds, as an earlier turn, the question and the answer of the {name} example at {other.source}",
        f"keep each conversation in one part only; it was left out here and kept in the {name} part",
    ).at(example.source)


def _quote_finding(example: Example, other: Example, name: str) -> Finding:
    return left_out(
        "leak-quote",
        f"holds, word for word, the question of the {name} example at {other.source}",
        f"keep each thread in one part only; it was left out here and kept in the {name} part",
    ).at(example.source)


def _group_finding(example: Example, other: Example, name: str) -> Finding:
    return left_out(
        "leak-group",
        f"is of the group {example.group!r}, as the {name} example at {other.source} is",
        f"keep each group in one part only; it was left out here and kept in the {name} part",
    ).at(example.source)
