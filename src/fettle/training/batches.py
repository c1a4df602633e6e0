"""Which examples a step takes, and how they are run: pure functions, so that a resumed run needs no memory of them."""

from __future__ import annotations

from collections.abc import Sequence

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


def micro_batches(
    examples: Sequence[TokenisedExample], *, shared: int, max_tokens: int
) -> tuple[tuple[TokenisedExample, ...], ...]:
    """The examples of a step in groups of at most `max_tokens` tokens each (one example always fits), longest first.

    Args:
        examples: The step's examples.
        shared: Leading tokens that are computed once for all and do not count.
        max_tokens: Bound on the tokens of a group.
    """
    ordered = sorted(examples, key=lambda example: (-len(example.token_ids), example.example_id))
    groups = token_groups([len(example.token_ids) - shared for example in ordered], max_tokens=max_tokens)
    return tuple(tuple(ordered[group.start : group.stop]) for group in groups)
