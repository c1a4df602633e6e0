"""The exactness suite on a CUDA GPU: fp32 against the processor, and in bf16 each kernel against the code it stands for.

Skipped where there is no GPU. `tests/unit/models/test_flex_attention.py` shows the same plan by the kernel's dense definition, and
`tests/unit/training/test_no_waiting.py` that no tensor is on the wrong side, without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from test_gradients import family_tree, gradients, ragged_rows

from fettle.models import own_attention
from fettle.models.adapter import LoraSettings, new_adapter, unload_adapters
from fettle.models.flex_attention import flex_applies, flex_attended
from fettle.models.head import logits_of
from fettle.models.head_loss import HeadLoss, chosen_head_loss
from fettle.models.load import load_model
from fettle.models.packing import Prefix, Span, pack_rows
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from fettle.models.segment_attention import AttentionForm, SegmentAttention
from fettle.training.accumulate import add_gradients
from fettle.training.memory import forget_peak_memory, peak_memory_bytes
from tiny_models import FAMILIES

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]
EXACT, BF16 = 1e-4, 0.03
"""Most relative difference of a gradient. In fp32 other kernels round otherwise; bf16 has 8 bits."""


@pytest.fixture
def adapted(tiny_model: Callable[[str], Any], request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """A tiny model, which is loaded to the GPU, with a random adapter."""
    loaded = tiny_model(request.param)
    assert loaded.model.device.type == "cuda"
    peft = new_adapter(loaded, LoraSettings(rank=4, alpha=8), seed=1, name="tuned")
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in peft.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    yield loaded.model, peft
    unload_adapters(peft)
    loaded.model.requires_grad_(requires_grad=False)


@pytest.mark.parametrize("adapted", FAMILIES, indirect=True)
@pytest.mark.parametrize("max_tokens", [10_000, 40], ids=["at-once", "in-parts"])
def test_a_step_in_fp32_is_that_of_the_processor(adapted: tuple[Any, Any], max_tokens: int) -> None:
    model, peft = adapted
    examples = [*family_tree(seed=11), *ragged_rows(num_shared=20, seed=3)]
    on_gpu, num_tokens, _ = add_gradients(model, examples, max_tokens=max_tokens)
    found = {name: gradient.cpu() for name, gradient in gradients(peft).items()}
    peft.to("cpu")
    try:
        on_processor, same_num_tokens, _ = add_gradients(model, examples, max_tokens=max_tokens)
        wanted = gradients(peft)
    finally:
        peft.to("cuda")
    assert num_tokens == same_num_tokens
    assert on_gpu == pytest.approx(on_processor, rel=1e-5)
    for name, reference in wanted.items():
        assert float((found[name] - reference).norm() / reference.norm()) < EXACT, name


@pytest.mark.parametrize("window", [None, 40], ids=["all", "window"])
@pytest.mark.parametrize("softcap", [None, 5.0], ids=["plain", "soft-capped"])
@pytest.mark.parametrize("has_pool", [False, True], ids=["inside", "pool"])
@pytest.mark.parametrize("size", [64, 128])
def test_flex_attention_is_attention_by_segments(
    window: int | None, softcap: float | None, has_pool: bool, size: int
) -> None:
    device = torch.device("cuda")
    shared = Prefix((Span(0, 90),))
    after = [shared] * 3 if has_pool else [Prefix(), shared, shared]
    packed = pack_rows([list(range(90)), list(range(200)), [1]], after=after, num_heads=8, device=device)
    generator = torch.Generator(device).manual_seed(0)
    num_tokens = packed.ids_1T.shape[1]
    shapes = [(num_tokens, 8, size), *[(num_tokens, 2, size)] * 2, *([(2, 90, size)] * 2 if has_pool else [])]
    given = [
        torch.randn(shape, generator=generator, device=device).bfloat16().requires_grad_(requires_grad=True)
        for shape in shapes
    ]
    assert flex_applies(given[0])
    pool = [] if has_pool else [None, None]
    upstream = torch.randn(shapes[0], generator=generator, device=device).bfloat16()
    upstream[packed.num_tokens :] = 0
    form = AttentionForm(scaling=size**-0.5, window=window, softcap=softcap)
    exactly = [tensor.detach().float().requires_grad_(requires_grad=True) for tensor in given]
    wanted = SegmentAttention.apply(*exactly, *pool, packed, form)
    found = flex_attended(*given, *pool, packed, form)
    compared = zip(
        [found, *torch.autograd.grad(found, given, upstream)],
        [wanted, *torch.autograd.grad(wanted, exactly, upstream.float())],
        strict=True,
    )
    for ours, reference in compared:
        assert float((ours.float() - reference).norm() / reference.norm()) < BF16


def test_a_step_of_the_embedded_model_in_bf16_by_all_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(resolve_model(None), Precision.FAST)
    peft = new_adapter(loaded, LoraSettings(), seed=1, name="tuned")
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    examples = [*family_tree(seed=1), *ragged_rows(num_shared=60, seed=2)]
    by_kernels, num_tokens, _ = add_gradients(loaded.model, examples, max_tokens=4096)
    found = gradients(peft)
    monkeypatch.setattr(own_attention, "flex_applies", lambda _query: False)
    monkeypatch.setattr("fettle.models.head.chosen_head_loss", lambda *_: HeadLoss.OWN)
    by_our_own, *_ = add_gradients(loaded.model, examples, max_tokens=4096)
    assert by_kernels / num_tokens == pytest.approx(by_our_own / num_tokens, abs=0.02)
    wanted = gradients(peft)
    apart = sum(float((found[name] - wanted[name]).square().sum()) for name in wanted)
    assert (apart / sum(float(gradient.square().sum()) for gradient in wanted.values())) ** 0.5 < 3 * BF16


def test_liger_gives_the_loss_and_gradient_of_our_own() -> None:
    pytest.importorskip("liger_kernel")
    from fettle.models.head import _SummedCrossEntropy
    from fettle.models.head_loss import PositionSums, liger_cross_entropy

    model = load_model(resolve_model(None), Precision.FAST).model
    hidden = torch.randn(1500, model.config.hidden_size, device="cuda").bfloat16().requires_grad_(requires_grad=True)
    targets = torch.randint(0, model.config.vocab_size, (1500,), device="cuda")
    targets[:400] = logits_of(model, hidden[:400]).argmax(-1)  # some of them are right
    assert chosen_head_loss(model, hidden, None) is HeadLoss.LIGER
    by_liger = liger_cross_entropy(model, hidden, targets)
    by_us = PositionSums(*_SummedCrossEntropy.apply(hidden, targets, None, model))
    assert float(by_liger.cross_entropy) == pytest.approx(float(by_us.cross_entropy), rel=1e-3)
    assert float(by_us.num_right) >= 400
    assert float(by_liger.num_right) == pytest.approx(
        float(by_us.num_right), abs=20
    )  # several may be equally likely in bf16
    found, wanted = (torch.autograd.grad(sums.cross_entropy, hidden)[0].float() for sums in (by_liger, by_us))
    assert float((found - wanted).norm() / wanted.norm()) < BF16


def test_its_own_memory_is_counted() -> None:
    device = torch.device("cuda")
    forget_peak_memory(device)
    before = peak_memory_bytes(device)
    block = torch.empty(100_000_000, dtype=torch.uint8, device=device)
    del block
    assert 100_000_000 <= peak_memory_bytes(device) - before < 110_000_000
