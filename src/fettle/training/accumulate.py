"""The gradient of a whole batch, in which what several examples begin with is computed once.

A batch that is small enough is one call: shared stretches lie before all else in the packed row, and what comes after them attends
to them there. A larger one is taken in steps. The shared stretches are run first, level by level, with their graphs kept. Each
micro-batch back-propagates into detached copies of their keys and values, and what gathers there is sent through the levels' graphs
at the end, the deepest first. Exact either way: the chain rule in steps. Memory is that of the shared stretches and one
micro-batch; a batch whose stretches are too many is taken in parts.

Legend: C tokens of the pool, H key/value heads, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fettle.models.own_attention import KeyValues, PackedAttention, own_attention, run
from fettle.models.packing import pack_rows
from fettle.models.prefix_tree import PrefixTree, parts_within, prefix_tree
from fettle.models.recomputed_layers import recomputed_layers
from fettle.models.shared_prefix import num_heads, run_for_keys
from fettle.records import TokenisedExample
from fettle.training.batches import micro_batches
from fettle.training.plain import plain_sft_loss
from fettle.training.sft import LossSum, StepLoss, input_tokens, sft_loss, targets_of_nodes, targets_of_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_gradients(
    model: PreTrainedModel,
    examples: Sequence[TokenisedExample],
    *,
    max_tokens: int,
    plainly: bool = False,
    recomputes: bool = False,
) -> LossSum:
    """Add the gradient of the summed loss of `examples` to the trainable parameters.

    Args:
        model: The model, with what is trained in place.
        examples: A batch.
        max_tokens: Bound on the tokens that are run at once, and on the shared ones that are kept meanwhile.
        plainly: By the model's own forward, nothing shared: for models that cannot be run in packed rows.
        recomputes: Layers are computed again in the backward pass rather than kept (`models/recomputed_layers.py`).

    Returns:
        The summed loss, and the number of trained tokens to divide loss and gradient by.
    """
    one_way = _plain_losses if plainly else _packed_losses
    with nullcontext() if plainly else own_attention(model), recomputed_layers(model, wanted=recomputes):
        return summed(one_way(model, examples, max_tokens=max_tokens, sends_back=True))


def loss_at_once(
    model: PreTrainedModel, examples: Sequence[TokenisedExample], *, plainly: bool = False, recomputes: bool = False
) -> StepLoss:
    """The loss of a few examples with its graph, as one call of `add_gradients` has it; nothing is sent back."""
    with nullcontext() if plainly else own_attention(model), recomputed_layers(model, wanted=recomputes):
        if plainly:
            return plain_sft_loss(model, examples)
        return packed_loss(model, examples, prefix_tree([input_tokens(example) for example in examples]))


def num_tokens_at_once(examples: Sequence[TokenisedExample], *, max_tokens: int, plainly: bool = False) -> int:
    """The most tokens of a batch whose intermediate results exist at once in `add_gradients`, padding included."""
    if plainly:
        groups = micro_batches(examples, shared_lengths=[0] * len(examples), max_tokens=max_tokens)
        return max(len(group) * max(len(examples[index].token_ids) for index in group) for group in groups)
    rows = [input_tokens(example) for example in examples]
    most = 0
    for part in parts_within(rows, max_tokens=max_tokens):
        alone = [len(rows[index]) - shared for index, shared in zip(part.rows, part.tree.shared_lengths, strict=True)]
        num_tokens = part.tree.num_tokens + sum(alone)
        if num_tokens > max_tokens:  # the shared ones, and those of one micro-batch, which is one row at least
            num_tokens = part.tree.num_tokens + min(sum(alone), max(max_tokens, *alone))
        most = max(most, num_tokens)
    return most


def mean_loss(
    model: PreTrainedModel,
    examples: Sequence[TokenisedExample],
    *,
    batch_size: int,
    max_tokens: int,
    plainly: bool = False,
) -> float:
    """Mean cross-entropy per trained token over all examples, nats, without gradients; `plainly` as in `add_gradients`."""
    found = summed_loss(model, examples, batch_size=batch_size, max_tokens=max_tokens, plainly=plainly)
    return found.total / found.num_tokens


def summed_loss(
    model: PreTrainedModel,
    examples: Sequence[TokenisedExample],
    *,
    batch_size: int,
    max_tokens: int,
    plainly: bool = False,
    share: int = 0,
    num_shares: int = 1,
) -> LossSum:
    """The summed loss of the examples, without gradients; `plainly` as in `add_gradients`.

    Of several shares each has whole batches, so that all losses are what they are in one share.
    """
    losses: list[StepLoss] = []
    with torch.no_grad(), nullcontext() if plainly else own_attention(model):
        for batch in evaluated_batches(examples, batch_size=batch_size)[share::num_shares]:
            one_way = _plain_losses if plainly else _packed_losses
            losses += one_way(model, batch, max_tokens=max_tokens, sends_back=False)
    return summed(losses)


def evaluated_batches(examples: Sequence[TokenisedExample], *, batch_size: int) -> list[list[TokenisedExample]]:
    """All examples in batches of like length, for their loss."""
    ordered = sorted(examples, key=lambda example: (len(example.token_ids), example.example_id))
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


def _plain_losses(
    model: PreTrainedModel, examples: Sequence[TokenisedExample], *, max_tokens: int, sends_back: bool
) -> Iterator[StepLoss]:
    for group in micro_batches(examples, shared_lengths=[0] * len(examples), max_tokens=max_tokens):
        loss = plain_sft_loss(model, [examples[index] for index in group])
        if sends_back:
            loss.total.backward()
        yield loss


def _packed_losses(
    model: PreTrainedModel, examples: Sequence[TokenisedExample], *, max_tokens: int, sends_back: bool
) -> Iterator[StepLoss]:
    """All losses of a batch; each has added its gradient when it is given, if it is to."""
    for part in parts_within([input_tokens(example) for example in examples], max_tokens=max_tokens):
        some, tree = [examples[index] for index in part.rows], part.tree
        num_alone = sum(len(input_tokens(example)) for example in some) - sum(tree.shared_lengths)
        if tree.num_tokens + num_alone <= max_tokens:
            loss = packed_loss(model, some, tree)
            if sends_back:
                loss.total.backward()
            yield loss
            continue
        levels = _run_levels(model, some, tree)
        for loss in _losses_of_rows(model, some, tree, levels[-1].pool if levels else None, max_tokens=max_tokens):
            if sends_back:
                loss.total.backward()
            yield loss
        while levels:  # each is dropped when it is done with
            level = levels.pop()
            if sends_back:
                level.send_back()
            if level.loss is not None:
                yield level.loss


def packed_loss(model: PreTrainedModel, examples: Sequence[TokenisedExample], tree: PrefixTree) -> StepLoss:
    """The loss of examples in one call: the nodes, in their order, and then what each example has alone, in one packed row."""
    nodes, shared_lengths = tree.nodes, tree.shared_lengths
    packed = pack_rows(
        [
            *(examples[node.row].token_ids[node.start : node.end] for node in nodes),
            *(input_tokens(example)[length:] for example, length in zip(examples, shared_lengths, strict=True)),
        ],
        after=[tree.prefix(node) for node in (*(node.parent for node in nodes), *tree.node_of_row)],
        num_heads=num_heads(model),
        device=model.device,
    )
    targets = targets_of_nodes(examples, tree, range(len(nodes)), starts=packed.starts[: len(nodes)])
    targets += targets_of_rows(examples, starts=packed.starts[len(nodes) :], shared_lengths=shared_lengths)
    return sft_loss(model, run(model, packed.ids_1T, packed.positions_1T, PackedAttention(packed)), targets)


def _losses_of_rows(
    model: PreTrainedModel,
    examples: Sequence[TokenisedExample],
    tree: PrefixTree,
    pool: KeyValues | None,
    *,
    max_tokens: int,
) -> Iterator[StepLoss]:
    """What is trained of each example after the nodes it shares, some of them at a time."""
    shared_lengths = tree.shared_lengths
    for group in micro_batches(examples, shared_lengths=shared_lengths, max_tokens=max_tokens):
        packed = pack_rows(
            [input_tokens(examples[index])[shared_lengths[index] :] for index in group],
            after=[tree.prefix(tree.node_of_row[index]) for index in group],
            num_heads=num_heads(model),
            device=model.device,
        )
        targets = targets_of_rows(
            [examples[index] for index in group],
            starts=packed.starts,
            shared_lengths=[shared_lengths[index] for index in group],
        )
        yield sft_loss(model, run(model, packed.ids_1T, packed.positions_1T, PackedAttention(packed, pool)), targets)


@dataclass(frozen=True, slots=True)
class _Level:
    """The nodes of one level of a prefix tree, computed."""

    key_values: KeyValues
    """Their own, with their graph."""
    loss: StepLoss | None
    """Of what is trained inside them."""
    pool: KeyValues
    """Copies of all keys and values up to and with this level, in which gradients gather."""
    before: KeyValues | None
    """The pool that these nodes attended to themselves."""

    def send_back(self) -> None:
        """Back-propagate what has gathered in this level's pool through its nodes; the rest goes to the pool before it."""
        ends: list[torch.Tensor] = []
        gradients: list[torch.Tensor | None] = []
        for own_HCD, leaf_HCD, before_HCD in zip(
            _flat(self.key_values), _flat(self.pool), _flat(self.before) or _nothing(self.pool), strict=True
        ):
            if leaf_HCD.grad is None:
                continue
            num_before = leaf_HCD.shape[1] - own_HCD.shape[1]
            if own_HCD.requires_grad:
                ends.append(own_HCD)
                gradients.append(leaf_HCD.grad[:, num_before:])
            if before_HCD is not None:
                before_HCD.grad = leaf_HCD.grad[:, :num_before].contiguous()
        if self.loss is not None:
            ends.append(self.loss.total)
            gradients.append(None)
        torch.autograd.backward(ends, gradients)


def _run_levels(model: PreTrainedModel, examples: Sequence[TokenisedExample], tree: PrefixTree) -> list[_Level]:
    levels: list[_Level] = []
    for number in range(tree.num_levels):
        before = levels[-1].pool if levels else None
        nodes = tree.level(number)
        packed = pack_rows(
            [examples[(node := tree.nodes[index]).row].token_ids[node.start : node.end] for index in nodes],
            after=[tree.prefix(tree.nodes[index].parent) for index in nodes],
            num_heads=num_heads(model),
            device=model.device,
        )
        hidden_TE, key_values = run_for_keys(model, packed, before)
        targets = targets_of_nodes(examples, tree, nodes, starts=packed.starts)
        loss = sft_loss(model, hidden_TE, targets) if targets else None
        levels.append(_Level(key_values, loss, _grown(before, key_values), before))
    return levels


def _grown(before: KeyValues | None, new: KeyValues) -> KeyValues:
    """The pool with what was computed last behind it, cut off from its graph."""
    joined = (
        new
        if before is None
        else tuple(
            (torch.cat((old[0], own[0]), dim=1), torch.cat((old[1], own[1]), dim=1))
            for old, own in zip(before, new, strict=True)
        )
    )
    wants_gradient = torch.is_grad_enabled()
    return tuple(
        (key.detach().requires_grad_(wants_gradient), value.detach().requires_grad_(wants_gradient))
        for key, value in joined
    )


def _flat(key_values: KeyValues | None) -> list[torch.Tensor]:
    return [tensor for pair in key_values or () for tensor in pair]


def _nothing(key_values: KeyValues) -> list[None]:
    return [None] * (2 * len(key_values))


def summed(losses: Iterator[StepLoss] | Sequence[StepLoss]) -> LossSum:
    """All losses added up."""
    found, num_tokens = [], 0
    for loss in losses:
        found.append(torch.stack((loss.total.detach(), loss.num_right)))
        num_tokens += loss.num_tokens
    if not found:  # a process of several may have had nothing to do
        return LossSum(0.0, 0, 0.0)
    totals, nums_right = torch.stack(found).T.tolist()  # a GPU is asked once, when all of them are under way
    return LossSum(sum(totals), num_tokens, sum(nums_right))
