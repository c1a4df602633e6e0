"""From the user's files to three checked splits with one instruction: what every contender is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fettle.contenders.instruction import Instruction, choose_instruction, has_instruction
from fettle.errors import ConfigError, DataError
from fettle.examples.bundled import BundledTask, bundled_task
from fettle.examples.check import Part, check_examples, together
from fettle.examples.checks.labels import check_untaught_labels
from fettle.examples.column_names import ColumnMapping
from fettle.examples.duplicates import comparable_text
from fettle.examples.notes import info, warning
from fettle.examples.read import read_examples
from fettle.examples.seen import find_seen, instruction_findings, seen_findings, without_seen
from fettle.examples.split import given_split, split_examples
from fettle.examples.task import keep_labelled, recognise_task
from fettle.files import sha256_of_json
from fettle.records import Example, Finding, Location, Split, Task, TaskKind
from fettle.study.arms import require_nothing_leaked
from fettle.study.settings import StudySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyData:
    """The data of one study, ready to be answered and learned from."""

    name: str
    task: Task
    split: Split
    """Every example with its instruction as the first message."""
    instruction: Instruction
    findings: tuple[Finding, ...]
    file_sha256: dict[str, str]
    num_seen: int = 0
    """Examples that are not held out because a model that is studied has learned from them."""

    def split_sha256(self) -> dict[str, str]:
        """The hash of each part's content, whatever file it came from."""
        parts = {"train": self.split.train, "valid": self.split.valid, "test": self.split.test}
        return {
            name: sha256_of_json(sorted(sha256_of_json([asdict(m) for m in e.messages]) for e in part))
            for name, part in parts.items()
        }

    def test_sha256(self) -> tuple[str, ...]:
        """The hash of each test question, sorted.

        By its words, as near-duplicates are told apart: under another instruction, with another answer or in other case it is the
        same question.
        """
        return tuple(sorted(sha256_of_json(comparable_text(example)) for example in self.split.test))


def prepare(settings: StudySettings, taught: Sequence[Example] = ()) -> StudyData:
    """Read, check, recognise, split and instruct.

    Args:
        settings: The study.
        taught: What a model that is studied has learned from before: none of it is held out.

    Raises:
        DataError: The examples cannot be studied; the message says why and where.
        ConfigError: An option does not fit the data.
    """
    bundled = bundled_task(str(settings.examples))
    path, columns, given = _source(settings, bundled)
    dataset = read_examples(path, columns=columns, encoding=settings.encoding)
    file_sha256 = dict(dataset.file_sha256)
    task = recognise_task(dataset.examples, settings.task)
    dataset = keep_labelled(dataset, task)
    if settings.test is None:
        findings = list(check_examples(dataset, task, Part.WHOLE))
        if settings.valid is not None:
            raise ConfigError("a validation file without a test file", where="--valid", remedy="give --test as well")
        _refuse_unscorable(findings)
        seen = find_seen(dataset.examples, taught)
        split = split_examples(dataset.examples, task, seed=settings.seed, sizes=settings.sizes, taught=frozenset(seen))
    else:
        others = {
            part: read_examples(file, columns=columns, encoding=settings.encoding)
            for part, file in _given_parts(settings)
        }
        joined = together({Part.TRAINING: dataset, **others})
        dataset, others = joined.pop(Part.TRAINING), joined
        findings = list(check_examples(dataset, task, Part.TRAINING))
        for part, other in others.items():
            findings += check_examples(other, task, part)
            file_sha256 |= other.file_sha256
        _refuse_unscorable(findings)
        valid = others[Part.VALIDATION].examples if Part.VALIDATION in others else None
        parts = without_seen(dataset.examples, valid, others[Part.TEST].examples, taught)
        seen = parts.seen
        split, leaks = given_split(
            parts.train,
            parts.valid,
            parts.test,
            task,
            seed=settings.seed,
            sizes=settings.sizes,
            taught=frozenset(seen),
        )
        findings += leaks
    # Nothing that is known of the task may come from the test part.
    task = replace(recognise_task(split.train, task.kind), reason=task.reason)
    _require_known_labels(task, split)
    findings += check_untaught_labels(split.train, (*split.valid, *split.test), task)
    everything = [*split.train, *split.valid, *split.test]
    findings += seen_findings(everything, seen)
    instruction = choose_instruction(
        given, task, train=split.train, everything=everything, giver=_giver(settings, bundled)
    )
    findings += _instruction_findings(instruction, everything)
    split = _instructed(split, instruction)
    require_nothing_leaked(split, taught, seen)
    findings += instruction_findings((*split.valid, *split.test), taught)
    name = str(settings.examples).replace(":", "-") if bundled else dataset.name
    return StudyData(
        name=name,
        task=task,
        split=split,
        instruction=instruction,
        findings=tuple(findings),
        file_sha256=file_sha256,
        num_seen=len(seen),
    )


def as_studied(settings: StudySettings) -> tuple[tuple[Example, ...], Instruction]:
    """All examples of a file with the instruction that a study of it would give them, however few they are.

    Raises:
        DataError: The examples cannot be read.
    """
    bundled = bundled_task(str(settings.examples))
    path, columns, given = _source(settings, bundled)
    dataset = read_examples(path, columns=columns, encoding=settings.encoding)
    task = recognise_task(dataset.examples, settings.task)
    examples = keep_labelled(dataset, task).examples
    try:
        train = split_examples(examples, task, seed=settings.seed, sizes=settings.sizes).train
    except DataError:  # too few for a study, not for a look
        train = examples
    task = recognise_task(train, task.kind)
    instruction = choose_instruction(given, task, train=train, everything=examples, giver=_giver(settings, bundled))
    return tuple(map(instruction.on, examples)), instruction


def _source(settings: StudySettings, bundled: BundledTask | None) -> tuple[Path, ColumnMapping | None, str | None]:
    """Where the examples lie, their columns, and the instruction that was given; a bundled task brings all three."""
    if bundled is None:
        return settings.examples, settings.columns, settings.instruction
    given = bundled.instruction if settings.instruction is None else settings.instruction
    return bundled.examples, settings.columns or bundled.columns, given


def _giver(settings: StudySettings, bundled: BundledTask | None) -> str:
    return "given by the user" if bundled is None or settings.instruction is not None else "bundled with the examples"


def _given_parts(settings: StudySettings) -> list[tuple[Part, Path]]:
    parts = [(Part.VALIDATION, settings.valid), (Part.TEST, settings.test)]
    return [(part, path) for part, path in parts if path is not None]


def _refuse_unscorable(findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.code == "too-few-to-score":
            raise DataError(finding.message, where=finding.file, remedy=finding.remedy)


def _instructed(split: Split, instruction: Instruction) -> Split:
    train, valid, test = (tuple(map(instruction.on, part)) for part in (split.train, split.valid, split.test))
    return replace(split, train=train, valid=valid, test=test)


def _instruction_findings(instruction: Instruction, examples: Sequence[Example]) -> Iterator[Finding]:
    """What an instruction that is not every example's own changes."""
    if instruction.text is None:
        return
    num_all = f"{len(examples):,} examples"
    if instruction.is_for_bare:
        bare = [example for example in examples if not has_instruction(example)]
        if not bare:
            return
        text = f"{len(bare):,} of {num_all}, this one first, have no system message; they are given: {instruction.text[:100]!r}"
        yield warning("no-system-message", text, "give them theirs, or name one for all with --instruction").at(
            _first_place(bare)
        )
        return
    replaced = [e for e in examples if not e.context and any(m.is_system for m in e.messages)]
    if replaced:
        text = f"the system messages of {len(replaced):,} of {num_all}, this one first, are replaced by the one instruction"
        remedy = "leave --instruction out to keep those that stand first; later ones cannot be kept"
        yield info("system-message-replaced", text, remedy).at(_first_place(replaced))


def _first_place(examples: Sequence[Example]) -> Location:
    return min((example.source for example in examples), key=lambda place: (place.file, place.line))


def _require_known_labels(task: Task, split: Split) -> None:
    if task.kind is TaskKind.LABELS and len({example.answer for example in split.train}) < 2:
        raise DataError(
            "all training answers are the same label, so there is nothing to learn or to compare",
            remedy="add examples of at least one other label, or give --task text",
        )
    for name, part in (("validation", split.valid), ("test", split.test)):
        if part and task.kind is TaskKind.LABELS and not any(example.answer.strip() in task.labels for example in part):
            raise DataError(
                f"not one {name} answer is a label of the training examples; the first is {part[0].answer.strip()[:40]!r}",
                where=str(part[0].source),
                remedy="check that the files and columns belong together",
            )
