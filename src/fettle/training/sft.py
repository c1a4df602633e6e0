"""Supervised fine-tuning as a pure step: rows in, (loss sum, weight, right ones) out. No files, no logging, no optimiser.

Legend: T tokens of the packed rows, E hidden size, N trained positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fettle.models.device import tensor_on
from fettle.models.head import summed_cross_entropy
from fettle.models.prefix_tree import PrefixTree
from fettle.records import TokenisedExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class StepLoss:
    """A loss with its weight; the mean is formed once, over everything that belongs together."""

    total: torch.Tensor
    """Sum of the cross-entropies of all trained tokens, nats, fp32 scalar."""
    num_tokens: int
    num_right: torch.Tensor
    """Of the trained tokens, those that the model gives the highest probability, fp32 scalar."""


class LossSum(NamedTuple):
    """Losses added up."""

    total: float
    """Sum of the cross-entropies of all trained tokens, nats."""
    num_tokens: int
    """The trained tokens, by which loss and gradient are to be divided."""
    num_right: float
    """Of them those that the model gives the highest probability."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A token to be predicted."""

    place: int
    """Of the hidden state that predicts it, in the packed row."""
    token_id: int


Targets = Counter[Target]
"""How many examples train a target; more than one where they share the tokens up to it."""


def input_tokens(example: TokenisedExample) -> tuple[int, ...]:
    """The tokens that are run: those before the last trained one. Nothing depends on what follows.

    >>> input_tokens(TokenisedExample(example_id="a", token_ids=(5, 6, 7, 8, 9), is_trained=(False, False, True, True, False)))
    (5, 6, 7)
    """
    return example.token_ids[: _trained(example)[-1]]


def targets_of_rows(
    examples: Sequence[TokenisedExample], *, starts: Sequence[int], shared_lengths: Sequence[int]
) -> Targets:
    """What is trained of packed remainders.

    Args:
        examples: The whole examples.
        starts: Where the remainder of each begins in the packed row.
        shared_lengths: Leading tokens of each that are computed elsewhere.
    """
    return Counter(
        Target(start + position - 1 - shared, example.token_ids[position])
        for example, start, shared in zip(examples, starts, shared_lengths, strict=True)
        for position in _trained(example)
        if position > shared  # the state before a token predicts it
    )


def targets_of_nodes(
    examples: Sequence[TokenisedExample], tree: PrefixTree, nodes: Sequence[int], *, starts: Sequence[int]
) -> Targets:
    """What is trained of the packed nodes of a prefix tree, for all examples that pass through them."""
    start_of = dict(zip(nodes, starts, strict=True))
    targets: Targets = Counter()
    for example, last in zip(examples, tree.node_of_row, strict=True):
        trained = _trained(example)
        for number in tree.way_to(last):
            if number in start_of:
                node = tree.nodes[number]
                targets.update(
                    Target(start_of[number] + position - 1 - node.start, example.token_ids[position])
                    for position in trained
                    if node.start < position <= node.end
                )
    return targets


def sft_loss(model: PreTrainedModel, hidden_TE: torch.Tensor, targets: Targets) -> StepLoss:
    """Cross-entropy of some targets, each as often as it is trained."""
    import torch

    device = hidden_TE.device
    ordered = sorted(targets)
    hidden_NE = hidden_TE.index_select(0, tensor_on(device, [target.place for target in ordered]))
    tokens_N = tensor_on(device, [target.token_id for target in ordered])
    counts = [targets[target] for target in ordered]
    counts_N = tensor_on(device, counts, torch.float32) if max(counts) > 1 else None
    sums = summed_cross_entropy(model, hidden_NE, tokens_N, counts_N)
    return StepLoss(sums.cross_entropy, sum(counts), sums.num_right)


def _trained(example: TokenisedExample) -> list[int]:
    return [position for position, is_trained in enumerate(example.is_trained) if is_trained]
