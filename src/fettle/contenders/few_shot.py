"""Training examples shown in the prompt as earlier turns: a fixed set, or the ones nearest to the message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fettle.contenders.prompt import with_hint
from fettle.errors import IntegrityError
from fettle.records import Example, Message
from fettle.retrieval.neighbours import NearestNeighbours

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class FixedShots:
    """The same training examples in every prompt."""

    shots: tuple[Example, ...]
    hint: str | None = None

    def messages(self, example: Example) -> tuple[Message, ...]:
        """The conversation to be answered, the shots before it."""
        return _with_shots(example, self.shown(example), self.hint)

    def shown(self, example: Example) -> tuple[Example, ...]:  # noqa: ARG002 (as other styles have it)
        """The same for every example."""
        return self.shots

    def shorter(self) -> FixedShots | None:
        """Without the first shot; where there is none, without the hint."""
        if self.shots:
            return replace(self, shots=self.shots[1:])
        return replace(self, hint=None) if self.hint else None

    def describe(self) -> str:
        """The style in words."""
        named = self.shots if len(self.shots) <= _MOST_NAMED else self.shots[: _MOST_NAMED - 1]
        places = ", ".join(f"{Path(shot.source.file).name}:{shot.source.line}" for shot in named)
        if len(named) < len(self.shots):
            places += f" and {len(self.shots) - len(named)} more"
        return f"{len(self.shots)} fixed training examples in the prompt ({places}), chosen on the validation split"


@dataclass(frozen=True, slots=True)
class NearestShots:
    """The training examples nearest to the message, the nearest one last."""

    neighbours: NearestNeighbours
    num_shots: int
    hint: str | None = None

    def messages(self, example: Example) -> tuple[Message, ...]:
        """The conversation to be answered, the shots before it."""
        return _with_shots(example, self.shown(example), self.hint)

    def shown(self, example: Example) -> tuple[Example, ...]:
        """Those nearest to it, the nearest one last."""
        if not self.num_shots:
            return ()
        return tuple(reversed(self.neighbours.search(example.input_text, self.num_shots, exclude_ids=(example.id,))))

    def shorter(self) -> NearestShots | None:
        """Without the farthest shot; where there is none, without the hint."""
        if self.num_shots:
            return replace(self, num_shots=self.num_shots - 1)
        return replace(self, hint=None) if self.hint else None

    def describe(self) -> str:
        """The style in words."""
        return f"the {self.num_shots} training examples nearest to the message in the prompt, by sentence embeddings"


def shot_sets(train: Sequence[Example], *, num_shots: int, num_sets: int, seed: int) -> tuple[tuple[Example, ...], ...]:
    """Candidate sets of shots: drawn from the training examples no longer than most, different answers first.

    Args:
        train: Training examples.
        num_shots: Shots in a set.
        num_sets: Candidates, each another draw.
        seed: Of the draws.
    """
    short = short_enough(train)
    sets = []
    for number in range(num_sets):
        order = np.random.default_rng([seed, number]).permutation(len(short))
        drawn = [short[int(index)] for index in order]
        chosen: list[Example] = []
        answers: set[str] = set()
        for example in [*drawn, *drawn]:  # a second pass fills up where there are fewer answers than shots
            if len(chosen) == num_shots:
                break
            if example not in chosen and (
                example.answer not in answers or len(answers) == len({e.answer for e in short})
            ):
                chosen.append(example)
                answers.add(example.answer)
        sets.append(tuple(chosen))
    return tuple(sets)


def short_enough(train: Sequence[Example]) -> tuple[Example, ...]:
    """The shorter three quarters of the examples: the longest ones would fill the prompt of every request.

    Examples with an answer of weight 0 are no models to follow; they are left out where most examples have none.
    """
    exemplary = [example for example in train if all(message.weight != 0 for message in example.messages)]
    train = exemplary if 2 * len(exemplary) >= len(train) else train
    lengths = [sum(len(message.content) for message in example.messages[1:]) for example in train]
    limit = float(np.quantile(lengths, 0.75))
    return tuple(example for example, length in zip(train, lengths, strict=True) if length <= limit)


def _with_shots(example: Example, shots: Sequence[Example], hint: str | None) -> tuple[Message, ...]:
    if any(shot.id == example.id for shot in shots):
        raise IntegrityError(
            f"example {example.id} is among its own few-shot examples: its answer would be in the prompt"
        )
    hinted = with_hint(example.prompt, hint)
    num_system = 1 if hinted and hinted[0].is_system else 0
    turns = [turn for shot in shots for turn in _turns(shot)]
    return (*hinted[:num_system], *turns, *hinted[num_system:])


def _turns(shot: Example) -> list[Message]:
    """A shot without its instruction; what its system message asks goes before the first turn's text."""
    turns = [message for message in shot.messages if not message.is_system]
    if shot.context and len(turns) > 1:
        turns[0] = replace(turns[0], content=f"{shot.context}\n\n{turns[0].content}")
    return turns
