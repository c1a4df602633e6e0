"""Small hand-made examples, and contenders that say what they are told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fettle.records import Answer, Example, FinishReason, Location, Message, Split, Task, TaskKind, Usage

LABELS = ("billing", "delivery")
LABEL_TASK = Task(kind=TaskKind.LABELS, reason="said so", labels=LABELS)


def example(number: int, answer: str = "billing", text: str | None = None, *, system: str | None = None) -> Example:
    turns = [Message(role="user", content=text or f"message {number}"), Message(role="assistant", content=answer)]
    if system is not None:
        turns.insert(0, Message(role="system", content=system))
    return Example(id=f"e{number}", messages=tuple(turns), source=Location(file="small.jsonl", line=number))


def split(*, train: Sequence[Example], valid: Sequence[Example], test: Sequence[Example]) -> Split:
    everything = [*train, *valid, *test]
    return Split(
        train=tuple(train),
        valid=tuple(valid),
        test=tuple(test),
        cluster_by_id={example.id: number for number, example in enumerate(everything)},
        seed=0,
    )


def answer(
    example_id: str,
    text: str,
    *,
    finish_reason: FinishReason = FinishReason.STOP,
    likelihoods: Mapping[str, float] | None = None,
) -> Answer:
    return Answer(
        example_id=example_id,
        text=text,
        finish_reason=finish_reason,
        usage=Usage(prompt_tokens=10, completion_tokens=2, seconds=0.5),
        error="refused" if finish_reason is FinishReason.ERROR else None,
        choice_log_likelihoods=likelihoods,
    )


@dataclass
class Parrot:
    """A contender that gives the answers it was told, three examples at a time, and remembers what it was asked."""

    answers: Mapping[str, Answer]
    name: str = "parrot"
    title: str = "Parrot"
    is_fine_tuned: bool = False
    words: str = "says what it is told"
    asked: list[list[str]] = field(default_factory=list)
    shortened: tuple[str, ...] = ()
    fails_after: int | None = None
    """Number of batches after which it is cut off, as by a kill."""

    def describe(self) -> str:
        return self.words

    def told(self, example: Example) -> tuple[Message, ...]:
        return example.prompt

    def is_shortened(self, example: Example) -> bool:
        return example.id in self.shortened

    def identity(self) -> str:
        return f"{self.name}: {self.words}"

    def batches(self, examples: Sequence[Example]) -> tuple[tuple[int, ...], ...]:
        numbers = tuple(reversed(range(len(examples))))  # not the order of the examples, as engines do
        return tuple(numbers[start : start + 3] for start in range(0, len(numbers), 3))

    def answer(self, examples: Sequence[Example]) -> tuple[Answer, ...]:
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            raise KeyboardInterrupt
        self.asked.append([example.id for example in examples])
        return tuple(self.answers[example.id] for example in examples if example.id in self.answers)


def telling(examples: Sequence[Example], texts: Sequence[str], *, words: str = "says what it is told") -> Parrot:
    """A parrot that answers the examples with these texts."""
    told = {one.id: answer(one.id, text) for one, text in zip(examples, texts, strict=True)}
    return Parrot(told, words=words)
