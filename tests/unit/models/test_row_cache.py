"""Rows that are continued: what is written stays in its slot, whatever joins or leaves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from fettle.models.own_attention import PackedAttention, own_attention, run
from fettle.models.packing import ALIGNMENT, Prefix, pack_rows
from fettle.models.row_cache import RowCache, branched, continued, key_value_bytes
from fettle.models.shared_prefix import num_heads, prefix_key_values
from tiny_models import FAMILIES

PREFIX = list(range(40, 40 + ALIGNMENT))
LONG_PREFIX = list(range(10, 10 + 5 * ALIGNMENT))
"""Longer than what is copied before each row."""
ROWS = [[5, 9, 3], [7], list(range(60, 95))]


def plain_hidden(model: Any, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.base_model(input_ids=torch.tensor([tokens]), use_cache=False).last_hidden_state[0]


def filled(model: Any, *, prefix: list[int]) -> RowCache:
    packed = pack_rows(ROWS, after=Prefix.of_length(len(prefix)), num_heads=num_heads(model), device=model.device)
    computed = prefix_key_values(model, prefix)
    cache = RowCache(computed, lengths=[len(row) for row in ROWS])
    attention = PackedAttention(packed, computed, on_keys=partial(cache.fill, packed=packed))
    run(model, packed.ids_1T, packed.positions_1T, attention)
    return cache


@pytest.mark.parametrize("prefix", [[], PREFIX, LONG_PREFIX], ids=["separate", "copied-prefix", "shared-prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_uneven_continuations_equal_whole_rows_also_after_a_row_has_left(
    family: str, prefix: list[int], tiny_model: Callable[[str], Any]
) -> None:
    model = tiny_model(family).model
    written = [[*prefix, *row] for row in ROWS]
    steps = [[[11], [12, 13, 14], [15]], [[16, 17], [18], [19]], [[20] * 40, [21], [22]]]  # the last needs more room
    with torch.inference_mode(), own_attention(model):
        cache = filled(model, prefix=prefix)
        for new in steps:
            attention = continued(cache, new)
            ids = torch.tensor([token for tokens in new for token in tokens])[None]
            hidden = run(model, ids, attention.positions_1T, attention).split([len(tokens) for tokens in new])
            written = [row + tokens for row, tokens in zip(written, new, strict=True)]
            checked = [(row, states.clone()) for row, states in zip(written, hidden, strict=True)]
        cache.select([0, 2])
        written = [written[0] + [31], written[2] + [32]]
        attention = continued(cache, [[31], [32]])
        after = run(model, torch.tensor([[31, 32]]), attention.positions_1T, attention)
        checked += [(written[0], after[:1].clone()), (written[1], after[1:].clone())]
    for row, states in checked:
        torch.testing.assert_close(states, plain_hidden(model, row)[-len(states) :], rtol=1e-4, atol=2e-5)
    assert cache.lengths == [len(row) - cache.prefix_length for row in written]
    assert cache.prefix_length == (len(prefix) if prefix is LONG_PREFIX else 0)


@pytest.mark.parametrize("prefix", [PREFIX, LONG_PREFIX], ids=["copied-prefix", "shared-prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tree_sees_its_row_and_its_ancestors_only(
    family: str, prefix: list[int], tiny_model: Callable[[str], Any]
) -> None:
    model = tiny_model(family).model
    tokens, parents = [50, 51, 52, 53, 54], [None, 0, 0, None, 2]
    depths = [0, 1, 1, 0, 2]
    paths = [[50], [50, 51], [50, 52], [53], [50, 52, 54]]
    with torch.inference_mode(), own_attention(model):
        cache = filled(model, prefix=prefix)
        attention = branched(cache, parents, depths)
        hidden = run(model, torch.tensor([tokens * len(ROWS)]), attention.positions_1T, attention).clone()
    for row, states in zip(ROWS, hidden.split(len(tokens)), strict=True):
        for path, state in zip(paths, states, strict=True):
            expected = plain_hidden(model, [*prefix, *row, *path])[-1]
            torch.testing.assert_close(state, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_memory_of_a_token_is_known_beforehand(family: str, tiny_model: Callable[[str], Any]) -> None:
    model = tiny_model(family).model
    with torch.inference_mode(), own_attention(model):
        cache = filled(model, prefix=[])
    held = sum(x.numel() * x.element_size() for store in (cache.keys, cache.values) for x in store.values())
    assert held == key_value_bytes(model) * len(ROWS) * cache.num_slots


@pytest.mark.parametrize("prefix", [[], PREFIX, LONG_PREFIX], ids=["separate", "copied-prefix", "shared-prefix"])
@pytest.mark.parametrize("family", ["llama", "gemma2_narrow", "gemma3_narrow"])
def test_rows_that_join_are_continued_beside_those_that_are_there(
    family: str, prefix: list[int], tiny_model: Callable[[str], Any]
) -> None:
    model = tiny_model(family).model
    with torch.inference_mode(), own_attention(model):
        cache, others = filled(model, prefix=prefix), filled(model, prefix=prefix)
        first = continued(cache, [[11], [12] * 60, [13]])  # the caches have different numbers of slots then
        run(model, torch.tensor([[11, *[12] * 60, 13]]), first.positions_1T, first)
        cache.join(others)
        new = [[14], [15], [16], [17], [18, 19], [20]]
        attention = continued(cache, new)
        ids = torch.tensor([[token for tokens in new for token in tokens]])
        hidden = run(model, ids, attention.positions_1T, attention).clone().split([len(tokens) for tokens in new])
    before = [[*ROWS[0], 11], [*ROWS[1], *[12] * 60], [*ROWS[2], 13], *ROWS]
    for row, tokens, states in zip(before, new, hidden, strict=True):
        expected = plain_hidden(model, [*prefix, *row, *tokens])[-len(tokens) :]
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=2e-5)
