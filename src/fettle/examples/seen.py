"""Examples that a tuned model has learned from already: they may teach, and are never tested on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fettle.errors import DataError
from fettle.examples.contexts import with_contexts
from fettle.examples.duplicates import cluster_by_id
from fettle.examples.notes import UnusableRowError, warning
from fettle.examples.row_formats.chat import parsed_turns
from fettle.examples.split import with_distinct_ids
from fettle.records import Example, Finding, Location

FEWEST_VALID, FEWEST_TEST = 3, 5
"""Fewest examples that the model must not have learned from."""


def read_seen(file: Path, name: str) -> tuple[Example, ...]:
    """What a job's file has taught: an example for each answer that was learned, with all that came before it.

    Args:
        file: Chat rows, JSON Lines.
        name: What it is called in messages.

    Raises:
        DataError: It cannot be read any more.
    """
    try:
        return tuple(_examples(file, name))
    except (OSError, ValueError, KeyError, TypeError, UnusableRowError) as error:
        raise DataError(
            f"what the model was trained on cannot be read any more ({error})",
            where=str(file),
            remedy="restore it from a backup: without it nobody can tell which examples the model has seen",
        ) from error


def _examples(file: Path, name: str) -> Iterator[Example]:
    with file.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            messages, _ = parsed_turns(json.loads(line)["messages"])
            for end, message in enumerate(messages[1:], start=2):
                if message.role == "assistant" and message.weight != 0:
                    place = Location(file=name, line=number)
                    yield Example(id=f"{place}/{end}", messages=messages[:end], source=place)


def find_seen(examples: Sequence[Example], seen: Sequence[Example]) -> dict[str, Example]:
    """By its id, each example that asks what the model has learned, or nearly, or goes on from it, or goes with one that does.

    Chains count: what is joined to something seen in a cluster (`fettle.examples.duplicates`) may not be held out either.

    Args:
        examples: Those of the study, their ids distinct.
        seen: What `read_seen` returned.

    Returns:
        With each of them, the first such row.
    """
    if not seen:
        return {}
    ours = [replace(example, id=f"study-{number}") for number, example in enumerate(examples)]
    theirs = [replace(example, id=f"seen-{number}") for number, example in enumerate(seen)]
    clusters = cluster_by_id(with_contexts([*ours, *theirs]))
    first_of_cluster: dict[int, Example] = {}
    for row, known in zip(theirs, seen, strict=True):
        first_of_cluster.setdefault(clusters[row.id], known)
    return {
        example.id: first_of_cluster[clusters[mine.id]]
        for example, mine in zip(examples, ours, strict=True)
        if clusters[mine.id] in first_of_cluster
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The user's own parts, without what the model has seen in those that are held out."""

    train: tuple[Example, ...]
    valid: tuple[Example, ...] | None
    test: tuple[Example, ...]
    seen: dict[str, Example]
    """As `find_seen` says it."""


def without_seen(
    train: Sequence[Example], valid: Sequence[Example] | None, test: Sequence[Example], seen: Sequence[Example]
) -> HeldOut:
    """The user's own split, in which what the model has seen is a training example, wherever it was.

    Raises:
        DataError: Too little is left to validate or to test with.
    """
    train, valid, test = with_distinct_ids(train, valid, test)
    found = find_seen([*train, *(valid or ()), *test], seen)
    for name, part, fewest in (("validation", valid, FEWEST_VALID), ("test", test, FEWEST_TEST)):
        num_left = sum(example.id not in found for example in part or ())
        if part is not None and num_left < len(part) and num_left < fewest:
            raise too_few_unseen(f"{num_left} of the {len(part)} {name} examples are left", fewest)
    moved = [example for example in (*(valid or ()), *test) if example.id in found]
    return HeldOut(
        train=(*train, *moved),
        valid=None if valid is None else tuple(example for example in valid if example.id not in found),
        test=tuple(example for example in test if example.id not in found),
        seen=found,
    )


def too_few_unseen(what_is_left: str, fewest: int) -> DataError:
    """Nothing can be told of a model on what it has learned by heart."""
    return DataError(
        f"{what_is_left} that the model was not trained on, and at least {fewest} are needed",
        remedy="add examples that were in neither its training nor its validation file, nor nearly the same as one that was",
    )


def seen_findings(examples: Sequence[Example], seen: dict[str, Example]) -> Iterator[Finding]:
    """What was done with the examples that the model has seen."""
    for example in examples:
        if example.id in seen:
            text = f"asks what the model has learned from {seen[example.id].source}, or goes with an example that does"
            remedy = "nothing: it is a training example here, and no contender is tested on it"
            yield warning("seen-by-model", text, remedy).at(example.source)


def instruction_findings(held_out: Sequence[Example], seen: Sequence[Example]) -> Iterator[Finding]:
    """Said where the model is asked under system messages that it has never learned under."""
    known, asked = {_system(example) for example in seen}, {_system(example): example for example in held_out}
    if seen and known.isdisjoint(asked):
        text = f"the model was trained under other system messages, such as {min(known)[:100]!r}, than it is asked under here"
        remedy = (
            "give the one that it was trained with, by --instruction or in the examples: it does worse under another"
        )
        yield warning("other-instruction", text, remedy).at(next(iter(asked.values())).source)


def _system(example: Example) -> str:
    return "\n".join(message.content.strip() for message in example.prompt if message.is_system)
