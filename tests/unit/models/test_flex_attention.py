"""FlexAttention over the packed plan: outputs and gradients of attention by segments, one mask a call, one kernel for all lengths.

On a processor the library computes its dense definition, and refuses the backward pass that this has; the fixture lets it have one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import flex_attention as library

from fettle.models import flex_attention, own_attention
from fettle.models.adapter import LoraSettings, new_adapter, unload_adapters
from fettle.models.flex_attention import flex_applies, flex_attended, sight_of, whole_blocks
from fettle.models.packing import PackedRows, Prefix, Span, pack_rows
from fettle.models.segment_attention import AttentionForm, SegmentAttention
from fettle.records import TokenisedExample
from fettle.training.accumulate import add_gradients

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")
CPU = torch.device("cpu")
HEADS, KEY_HEADS, SIZE = 4, 2, 16


@pytest.fixture
def dense_flex(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()  # what it has traced with heads of another size it does not trace again
    monkeypatch.setattr(library, "_validate_device", lambda *_tensors: None)


def plan(lengths: list[int], after: Prefix | list[Prefix]) -> PackedRows:
    return pack_rows([list(range(length)) for length in lengths], after=after, num_heads=HEADS, device=CPU)


def spans(*edges: tuple[int, int]) -> Prefix:
    return Prefix.joined(Span(start, end) for start, end in edges)


NONE = Prefix()
PLANS = {  # keys of the pool, lengths of the rows, what stands before them
    "one-row": (0, [37], NONE),
    "rows-of-one-token": (0, [1, 1, 1], NONE),
    "one-prefix": (0, [40, 30, 1, 17], [NONE, *[spans((0, 40))] * 3]),
    "several-prefixes": (0, [40, 21, 30, 5, 1], [NONE, NONE, spans((0, 40)), spans((40, 61)), spans((0, 40))]),
    "nested": (
        0,
        [40, 30, 16, 5, 1, 17, 270, 2],
        [
            NONE,
            spans((0, 40)),
            spans((0, 70)),
            spans((0, 86)),
            spans((0, 70)),
            spans((0, 40)),
            spans((0, 40), (40, 86)),
            NONE,
        ],
    ),
    "nested-side-by-side": (
        0,
        [20, 18, 33, 4, 1, 6],
        [NONE, spans((0, 20)), spans((0, 20)), spans((0, 38)), spans((0, 20), (38, 71)), spans((0, 20), (38, 71))],
    ),
    "after-a-pool": (60, [9, 1, 30], Prefix.of_length(60)),
    "after-parts-of-a-pool": (
        150,
        [9, 1, 30, 4],
        [spans((0, 20)), spans((0, 20), (50, 150)), spans((0, 50)), NONE],
    ),
}
FORMS = {
    "plain": AttentionForm(scaling=0.25),
    "window": AttentionForm(scaling=0.3, window=11),
    "soft-capped": AttentionForm(scaling=0.25, softcap=3.0),
    "both": AttentionForm(scaling=0.25, window=50, softcap=3.0),
}


def tensors(packed: PackedRows, pool_length: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Queries, keys, values and the pool's, and a gradient of what comes out, none for filling."""
    generator = torch.Generator().manual_seed(packed.num_tokens)
    num_tokens = packed.ids_1T.shape[1]
    shapes = [(num_tokens, HEADS, SIZE), *[(num_tokens, KEY_HEADS, SIZE)] * 2]
    shapes += [(KEY_HEADS, pool_length, SIZE)] * 2 if pool_length else []
    upstream = torch.randn(shapes[0], generator=generator)
    upstream[packed.num_tokens :] = 0
    return [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes], upstream


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("case", PLANS.values(), ids=PLANS)
def test_outputs_and_gradients_are_those_of_attention_by_segments(
    case: tuple[int, list[int], Any], form: AttentionForm, dense_flex: None
) -> None:
    pool_length, lengths, after = case
    packed = plan(lengths, after)
    given_, upstream = tensors(packed, pool_length)
    pool = [] if pool_length else [None, None]
    by_segments = SegmentAttention.apply(*given_, *pool, packed, form)
    by_flex = flex_attended(*given_, *pool, packed, form)  # pyright: ignore[reportArgumentType]
    assert by_flex.shape == by_segments.shape
    torch.testing.assert_close(by_flex, by_segments, atol=1e-5, rtol=1e-5)
    assert not by_flex[packed.num_tokens :].any()
    wanted, found = (torch.autograd.grad(out, given_, upstream) for out in (by_segments, by_flex))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, ...]]]:
    """Lengths of rows, and the way to each: rows that stand before it and are part of what it comes after."""
    lengths = draw(st.lists(st.integers(1, 20), min_size=1, max_size=8))
    ways: list[tuple[int, ...]] = []
    for number in range(len(lengths)):
        parent = draw(st.one_of(st.none(), st.integers(0, number - 1))) if number else None
        ways.append(() if parent is None else (*ways[parent], parent))
    return lengths, ways


@given(tree=trees(), has_pool=st.booleans(), window=st.one_of(st.none(), st.integers(1, 30)))
def test_a_query_sees_what_is_on_its_way_and_not_after_it(
    tree: tuple[list[int], list[tuple[int, ...]]], has_pool: bool, window: int | None
) -> None:
    lengths, ways = tree
    starts = np.cumsum([0, *lengths]).tolist()
    prefixes = [spans(*((starts[row], starts[row + 1]) for row in way)) for way in ways]
    pool_length = (
        starts[-1] if has_pool else 0
    )  # the rows once more: their copies in the pool are what others come after
    packed = plan(lengths, prefixes)
    own_start = whole_blocks(pool_length)
    num_queries, num_keys = packed.ids_1T.shape[1], own_start + packed.ids_1T.shape[1]
    expected = torch.zeros(num_queries, num_keys, dtype=torch.bool)
    for row, way in enumerate(ways):
        keys = [place for other in way for place in range(starts[other], starts[other + 1])]
        keys += range(own_start + starts[row], own_start + starts[row + 1])
        num_before = len(keys) - lengths[row]
        for place in range(lengths[row]):
            end = num_before + place + 1
            expected[starts[row] + place, keys[max(0, end - window) if window else 0 : end]] = True
    sees = sight_of(packed, pool_length).mask(window)
    places_Q1, places_1K = torch.arange(num_queries)[:, None], torch.arange(num_keys)[None]
    assert torch.equal(sees(torch.tensor(0), torch.tensor(0), places_Q1, places_1K), expected)


def test_prefixes_that_are_no_tree_are_refused() -> None:
    packed = plan([10, 10, 5, 5, 5], [NONE, NONE, spans((0, 10)), spans((10, 20)), spans((10, 20), (0, 10))])
    with pytest.raises(AssertionError, match="a tree"):
        sight_of(packed, 0)


def family_rows() -> list[TokenisedExample]:
    """Rows that share an instruction, some of them more."""
    random = np.random.default_rng(3)
    instruction, question = (random.integers(4, 400, length).tolist() for length in (70, 40))
    rows = []
    for number, length in enumerate([3, 9, 30, 1]):
        more = question if number % 2 else []
        answer = random.integers(4, 400, length).tolist()
        ids = (*instruction, *more, *answer)
        is_trained = (False,) * (len(ids) - length) + (True,) * length
        rows.append(TokenisedExample(example_id=str(number), token_ids=ids, is_trained=is_trained))
    return rows


@pytest.mark.parametrize("family", ["llama", "gemma2_narrow", "phi3_narrow"])
@pytest.mark.parametrize("max_tokens", [1000, 40], ids=["at-once", "in-levels"])
def test_a_training_step_has_the_same_loss_and_gradients(
    family: str, max_tokens: int, tiny_model: Callable[[str], Any], dense_flex: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = tiny_model(family)
    peft = new_adapter(loaded, LoraSettings(rank=4, alpha=8), seed=1, name="tuned")
    try:
        trained = {name: weight for name, weight in peft.named_parameters() if weight.requires_grad}
        with torch.no_grad():
            for number, weight in enumerate(trained.values()):
                weight.copy_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)))
        losses, gradients = [], []
        for uses_flex in (False, True):
            monkeypatch.setattr(own_attention, "flex_applies", lambda _query, uses_flex=uses_flex: uses_flex)
            peft.zero_grad(set_to_none=True)
            losses.append(add_gradients(loaded.model, family_rows(), max_tokens=max_tokens)[0])
            gradients.append({name: weight.grad.clone() for name, weight in trained.items()})
        assert losses[1] == pytest.approx(losses[0], rel=1e-6)
        for name, wanted in gradients[0].items():
            assert float((gradients[1][name] - wanted).norm() / wanted.norm()) < 1e-5, name
    finally:
        unload_adapters(peft)
        loaded.model.requires_grad_(requires_grad=False)


def test_the_mask_is_made_once_for_all_layers_of_one_window(dense_flex: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(*arguments: Any, **named: Any) -> Any:
        made.append(arguments)
        return library.create_block_mask(*arguments, **named)

    monkeypatch.setattr(flex_attention, "create_block_mask", counted)
    packed = plan([20, 5], [NONE, spans((0, 20))])
    given_, _ = tensors(packed, 0)
    with torch.no_grad():
        for window in (None, 9, None, 9, None):
            flex_attended(*given_, None, None, packed, AttentionForm(scaling=1.0, window=window))  # pyright: ignore[reportArgumentType]
    assert len(made) == 2


@pytest.fixture
def compiled(dense_flex: None, monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """Attention is compiled as on a GPU, up to the code of the kernel; counts how often."""
    counter = CompileCounterWithBackend("aot_eager")
    attend = torch.compile(library.flex_attention, dynamic=True, fullgraph=True, backend=counter)
    monkeypatch.setattr(flex_attention, "flex_attention", attend)
    return counter


def attend_and_send_back(length: int, form: AttentionForm, *, pool_length: int = 0) -> None:
    """As on a GPU, and compared."""
    packed = plan([length, 7], Prefix.of_length(pool_length) if pool_length else [NONE, spans((0, 50))])
    given_, upstream = tensors(packed, pool_length)
    pool = [] if pool_length else [None, None]
    by_flex = flex_attended(*given_, *pool, packed, form)  # pyright: ignore[reportArgumentType]
    by_segments = SegmentAttention.apply(*given_, *pool, packed, form)
    torch.testing.assert_close(by_flex, by_segments, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(
        *(torch.autograd.grad(out, given_, upstream) for out in (by_flex, by_segments)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_one_compiled_kernel_serves_all_lengths_and_windows(compiled: CompileCounterWithBackend) -> None:
    for length, window in [(300, None), (500, 40), (900, None), (700, 300)]:
        attend_and_send_back(length, AttentionForm(scaling=0.25, window=window))
    assert compiled.frame_count == 1
    for length, pool_length in [(90, 0), (110, 0), (300, 60), (400, 200), (700, 300)]:
        attend_and_send_back(length, AttentionForm(scaling=0.25), pool_length=pool_length)
    assert compiled.frame_count <= 4  # a single block of queries, and a pool of one or several blocks


def test_soft_capping_is_compiled_into_the_kernel(compiled: CompileCounterWithBackend) -> None:
    for length in (300, 500):
        attend_and_send_back(length, AttentionForm(scaling=0.25, softcap=3.0))
        attend_and_send_back(length, AttentionForm(scaling=0.25, softcap=5.0, window=20))
    assert compiled.frame_count == 2


def test_a_processor_attends_by_segments() -> None:
    assert not flex_applies(torch.zeros(1, 1, 64, dtype=torch.bfloat16))
