"""Which examples a step takes, and how they are run: pure functions, so that a resumed run needs no memory of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from operator import attrgetter

import numpy as np

from fettle.models.token_groups import token_groups
from fettle.records import TokenisedExample


def num_steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Optimiser steps in one pass; the last one may be smaller.

    >>> num_steps_per_epoch(33, 16)
    3
    """
    return -(-num_examples // batch_size)


def batch_at(step: int, *, num_examples: int, batch_size: int, seed: int) -> tuple[int, ...]:
    """Indices of the examples of step `step` (from 0): every epoch is a new shuffle of all examples."""
    epoch, place = divmod(step, num_steps_per_epoch(num_examples, batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(num_examples)
    return tuple(int(index) for index in order[place * batch_size : (place + 1) * batch_size])


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of a run.

    Rows that stand next to each other and have one `example_id` are one example: they are always learned in the same step.
    """

    rows: Sequence[TokenisedExample]
    batch_size: int
    """Examples per step."""
    seed: int
    """Of the shuffles."""
    _ends: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ends = accumulate(len(list(rows)) for _, rows in groupby(self.rows, key=attrgetter("example_id")))
        object.__setattr__(self, "_ends", tuple(ends))

    @property
    def num_examples(self) -> int:
        """However many rows each of them has."""
        return len(self._ends)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one pass."""
        return num_steps_per_epoch(self.num_examples, self.batch_size)

    def at(self, step: int) -> list[TokenisedExample]:
        """The rows of a step, counted from 0."""
        indices = batch_at(step, num_examples=self.num_examples, batch_size=self.batch_size, seed=self.seed)
        return [row for index in indices for row in self._rows_of(index)]

    def _rows_of(self, index: int) -> Sequence[TokenisedExample]:
        return self.rows[self._ends[index - 1] if index else 0 : self._ends[index]]


def micro_batches(
    examples: Sequence[TokenisedExample], *, shared_lengths: Sequence[int], max_tokens: int
) -> tuple[tuple[int, ...], ...]:
    """The examples of a step, by their index, in groups of at most `max_tokens` tokens each (one always fits), longest first.

    Args:
        examples: The step's examples.
        shared_lengths: Leading tokens of each that are computed once for several and do not count.
        max_tokens: Bound on the tokens of a group.
    """
    own_lengths = [len(example.token_ids) - shared for example, shared in zip(examples, shared_lengths, strict=True)]
    order = sorted(range(len(examples)), key=lambda index: (-own_lengths[index], examples[index].example_id))
    groups = token_groups([own_lengths[index] for index in order], max_tokens=max_tokens)
    return tuple(tuple(order[group.start : group.stop]) for group in groups)
