"""The gradient of a whole batch from micro-batches that share one computed prefix.

The prefix is run once with its graph kept. Each micro-batch back-propagates into a detached copy of the prefix's keys and values,
and what gathers there is sent through the prefix's graph at the end. Exact: the chain rule in two steps; memory is that of one
micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fettle.models.own_attention import KeyValues, own_attention
from fettle.models.shared_prefix import common_prefix_length, prefix_key_values, shared_length
from fettle.records import TokenisedExample
from fettle.training.batches import micro_batches
from fettle.training.plain import plain_sft_loss
from fettle.training.sft import sft_loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_gradients(
    model: PreTrainedModel, examples: Sequence[TokenisedExample], *, max_tokens: int, plainly: bool = False
) -> tuple[float, int]:
    """Add the gradient of the summed loss of `examples` to the trainable parameters.

    Args:
        model: The model, with what is trained in place.
        examples: A batch.
        max_tokens: Bound on the tokens that are run at once.
        plainly: By the model's own forward, nothing shared: for models that cannot be run in packed rows.

    Returns:
        The summed loss in nats, and the number of trained tokens to divide loss and gradient by.
    """
    if plainly:
        return _add_plain_gradients(model, examples, max_tokens=max_tokens)
    with own_attention(model):
        length = _shared_length(examples)
        computed = prefix_key_values(model, examples[0].token_ids[:length])
        leaves = _detached(computed)
        total, num_tokens = 0.0, 0
        for group in micro_batches(examples, shared=length, max_tokens=max_tokens):
            loss = sft_loss(model, group, prefix=leaves, prefix_length=length)
            loss.total.backward()
            total += float(loss.total.detach())
            num_tokens += loss.num_tokens
        if computed is not None and leaves is not None:
            _send_through(computed, leaves)
    return total, num_tokens


def mean_loss(
    model: PreTrainedModel,
    examples: Sequence[TokenisedExample],
    *,
    batch_size: int,
    max_tokens: int,
    plainly: bool = False,
) -> float:
    """Mean cross-entropy per trained token over all examples, nats, without gradients; `plainly` as in `add_gradients`."""
    import torch

    total, num_tokens = 0.0, 0
    if plainly:
        with torch.no_grad():
            for group in micro_batches(examples, shared=0, max_tokens=max_tokens):
                loss = plain_sft_loss(model, group)
                total += float(loss.total)
                num_tokens += loss.num_tokens
        return total / num_tokens
    ordered = sorted(examples, key=lambda example: (len(example.token_ids), example.example_id))
    with torch.no_grad(), own_attention(model):
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            length = _shared_length(batch)
            prefix = prefix_key_values(model, batch[0].token_ids[:length])
            for group in micro_batches(batch, shared=length, max_tokens=max_tokens):
                loss = sft_loss(model, group, prefix=prefix, prefix_length=length)
                total += float(loss.total)
                num_tokens += loss.num_tokens
    return total / num_tokens


def _add_plain_gradients(
    model: PreTrainedModel, examples: Sequence[TokenisedExample], *, max_tokens: int
) -> tuple[float, int]:
    total, num_tokens = 0.0, 0
    for group in micro_batches(examples, shared=0, max_tokens=max_tokens):
        loss = plain_sft_loss(model, group)
        loss.total.backward()
        total += float(loss.total.detach())
        num_tokens += loss.num_tokens
    return total, num_tokens


def _shared_length(examples: Sequence[TokenisedExample]) -> int:
    """Leading tokens to share: common to all, and followed by at least one more untrained token in each."""
    common = common_prefix_length([example.token_ids for example in examples])
    first_trained = min(example.is_trained.index(True) for example in examples)
    return shared_length(min(common, first_trained - 1), len(examples))


def _detached(computed: KeyValues | None) -> KeyValues | None:
    if computed is None:
        return None
    return tuple((keys.detach().requires_grad_(), values.detach().requires_grad_()) for keys, values in computed)


def _send_through(computed: KeyValues, leaves: KeyValues) -> None:
    """Back-propagate what has gathered in the copies through the prefix's own graph."""
    import torch

    ends = [
        (end, leaf.grad)
        for pair, copies in zip(computed, leaves, strict=True)
        for end, leaf in zip(pair, copies, strict=True)
    ]
    reached = [(end, grad) for end, grad in ends if grad is not None and end.requires_grad]
    torch.autograd.backward([end for end, _ in reached], [grad for _, grad in reached])
