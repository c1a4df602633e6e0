"""The gradient and the loss of a share in as many calls of the model as every other process makes: what a divided model asks for.

Each layer of such a model is put together by all processes at once, in the forward and in the backward pass. So a share is cut
into parts that are one call each, with what its rows begin with computed inside it, and who has fewer parts than others makes empty
calls for the rest. There are no levels here, whose backward passes FSDP would not see (`training/accumulate.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import torch

from fettle.models.own_attention import PackedAttention, own_attention, run
from fettle.models.packing import Prefix, pack_rows
from fettle.models.prefix_tree import parts_in_one_call
from fettle.models.recomputed_layers import recomputed_layers
from fettle.models.shared_prefix import num_heads
from fettle.records import TokenisedExample
from fettle.training.accumulate import packed_loss, summed
from fettle.training.batches import micro_batches
from fettle.training.plain import plain_sft_loss
from fettle.training.sft import LossSum, StepLoss, input_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Most = Callable[[int], int]
"""The largest of the numbers that all processes give."""
_Call = Callable[[], StepLoss]


def add_gradients_in_equal_calls(
    model: PreTrainedModel,
    examples: Sequence[TokenisedExample],
    *,
    max_tokens: int,
    most: Most,
    plainly: bool = False,
    recomputes: bool = False,
) -> LossSum:
    """As `accumulate.add_gradients`; `examples` is this process's share, which may be empty. All processes come here together."""
    with nullcontext() if plainly else own_attention(model), recomputed_layers(model, wanted=recomputes):
        return summed(_losses(model, [examples], max_tokens=max_tokens, most=most, plainly=plainly, sends_back=True))


def summed_loss_in_equal_calls(
    model: PreTrainedModel,
    batches: Sequence[Sequence[TokenisedExample]],
    *,
    max_tokens: int,
    most: Most,
    plainly: bool = False,
) -> LossSum:
    """The summed loss of this process's batches, without gradients."""
    with torch.no_grad(), nullcontext() if plainly else own_attention(model):
        return summed(_losses(model, batches, max_tokens=max_tokens, most=most, plainly=plainly, sends_back=False))


def num_tokens_in_equal_calls(examples: Sequence[TokenisedExample], *, max_tokens: int) -> int:
    """The most tokens of a share that are run at once in packed rows."""
    rows = [input_tokens(example) for example in examples]
    return max(
        part.tree.num_tokens + sum(len(rows[index]) for index in part.rows) - sum(part.tree.shared_lengths)
        for part in parts_in_one_call(rows, max_tokens=max_tokens)
    )


def _losses(
    model: PreTrainedModel,
    batches: Sequence[Sequence[TokenisedExample]],
    *,
    max_tokens: int,
    most: Most,
    plainly: bool,
    sends_back: bool,
) -> Iterator[StepLoss]:
    """All losses, those of empty calls included; each has added its gradient when it is given, if it is to."""
    calls_of = _plain_calls if plainly else _packed_calls
    calls = [call for batch in batches for call in calls_of(model, batch, max_tokens=max_tokens)]
    empty = partial(_empty, model, plainly=plainly)
    for call in [*calls, *[empty] * (most(len(calls)) - len(calls))]:
        loss = call()
        if sends_back:
            loss.total.backward()
        yield loss


def _packed_calls(model: PreTrainedModel, examples: Sequence[TokenisedExample], *, max_tokens: int) -> Iterator[_Call]:
    for part in parts_in_one_call([input_tokens(example) for example in examples], max_tokens=max_tokens):
        yield partial(packed_loss, model, [examples[index] for index in part.rows], part.tree)


def _plain_calls(model: PreTrainedModel, examples: Sequence[TokenisedExample], *, max_tokens: int) -> Iterator[_Call]:
    for group in micro_batches(examples, shared_lengths=[0] * len(examples), max_tokens=max_tokens):
        yield partial(plain_sft_loss, model, [examples[index] for index in group])


def _empty(model: PreTrainedModel, *, plainly: bool) -> StepLoss:
    """A call with one token and no loss: every layer is run, and the gradient is zero."""
    if plainly:
        outputs = model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False).logits
    else:
        packed = pack_rows([[0]], after=Prefix(), num_heads=num_heads(model), device=model.device)
        outputs = run(model, packed.ids_1T, packed.positions_1T, PackedAttention(packed))
    nothing = outputs.float().sum() * 0.0
    return StepLoss(nothing, 0, nothing.detach())
