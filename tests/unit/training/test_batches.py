from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.records import TokenisedExample
from fettle.training.batches import Batches, batch_at, micro_batches, num_steps_per_epoch


@given(num_examples=st.integers(1, 60), batch_size=st.integers(1, 20), seed=st.integers(0, 1000))
def test_every_epoch_takes_every_example_once_in_a_new_order(num_examples: int, batch_size: int, seed: int) -> None:
    steps = num_steps_per_epoch(num_examples, batch_size)
    epochs = [
        [
            index
            for step in range(epoch * steps, (epoch + 1) * steps)
            for index in batch_at(step, num_examples=num_examples, batch_size=batch_size, seed=seed)
        ]
        for epoch in range(2)
    ]
    assert [sorted(epoch) for epoch in epochs] == [list(range(num_examples))] * 2
    if num_examples > 20:
        assert epochs[0] != epochs[1]


def test_a_batch_is_a_function_of_its_step_and_seed() -> None:
    first = batch_at(7, num_examples=50, batch_size=8, seed=3)
    assert first == batch_at(7, num_examples=50, batch_size=8, seed=3)
    assert first != batch_at(7, num_examples=50, batch_size=8, seed=4)


@given(num_rows=st.lists(st.integers(1, 4), min_size=1, max_size=20), batch_size=st.integers(1, 8))
def test_rows_of_one_example_are_always_in_one_batch(num_rows: list[int], batch_size: int) -> None:
    rows = [
        TokenisedExample(example_id=str(number), token_ids=(number, place), is_trained=(False, True))
        for number, count in enumerate(num_rows)
        for place in range(count)
    ]
    batches = Batches(rows, batch_size, 3)
    assert batches.num_examples == len(num_rows)
    assert batches.steps_per_epoch == num_steps_per_epoch(len(num_rows), batch_size)
    for step in range(batches.steps_per_epoch):
        indices = batch_at(step, num_examples=len(num_rows), batch_size=batch_size, seed=3)
        assert batches.at(step) == [row for index in indices for row in rows if row.example_id == str(index)]


@given(
    lengths=st.lists(st.tuples(st.integers(12, 200), st.integers(0, 11)), min_size=1, max_size=30),
    max_tokens=st.integers(1, 600),
)
def test_micro_batches_lose_no_example_and_keep_their_bound(lengths: list[tuple[int, int]], max_tokens: int) -> None:
    examples = [
        TokenisedExample(example_id=str(n), token_ids=tuple(range(length)), is_trained=(False,) * length)
        for n, (length, _) in enumerate(lengths)
    ]
    shared = [shared for _, shared in lengths]
    groups = micro_batches(examples, shared_lengths=shared, max_tokens=max_tokens)
    assert sorted(index for group in groups for index in group) == list(range(len(examples)))
    for group in groups:
        own = [len(examples[index].token_ids) - shared[index] for index in group]
        assert len(group) == 1 or sum(own) <= max_tokens
    again = micro_batches(examples[::-1], shared_lengths=shared[::-1], max_tokens=max_tokens)
    # The order in which examples are given does not matter.
    assert [[len(examples) - 1 - index for index in group] for group in again] == [list(group) for group in groups]


@pytest.mark.parametrize(("num_examples", "batch_size", "steps"), [(1, 16, 1), (16, 16, 1), (17, 16, 2), (5, 1, 5)])
def test_the_last_batch_may_be_smaller(num_examples: int, batch_size: int, steps: int) -> None:
    assert num_steps_per_epoch(num_examples, batch_size) == steps
    last = batch_at(steps - 1, num_examples=num_examples, batch_size=batch_size, seed=0)
    assert len(last) == num_examples - (steps - 1) * batch_size
