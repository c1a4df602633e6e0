"""How likely each step down a tree of choices is, by one pass of the model over the tree after some rows.

Legend: B rows, T tokens of all rows, N tree nodes, C children of a node, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from fettle.answering.engines.running_batch import SharedPrefix, prefilled
from fettle.models.head import CHUNK_ROWS, logits_of
from fettle.models.own_attention import run
from fettle.models.row_cache import RowCache, branched

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fettle.answering.choices import ChoiceTree
    from fettle.answering.engines.row_threads import GoOn


def edges_after(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    prefix: SharedPrefix,
    tree: ChoiceTree,
    *,
    go_on: GoOn = lambda: None,
) -> tuple[torch.Tensor, ...]:
    """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow.

    To be called inside `own_attention`.

    Args:
        model: Runs, with whatever adapter is in place.
        rows: Prompts as tokens, their prefix included.
        prefix: What all rows begin with.
        tree: The choices.
        go_on: Is called now and then, and raises where nobody waits for the result any more.
    """
    to_run = tree.nodes_to_run
    cache, logits_BV = prefilled(model, rows, prefix, go_on=go_on)
    edges_BN = torch.zeros(len(rows), len(tree.token_ids), device=logits_BV.device)

    def fill(node: int, logits_BV: torch.Tensor) -> None:
        below = list(tree.children[node])
        children_BC = logits_BV[:, [tree.token_ids[child] for child in below]]
        edges_BN[:, below] = children_BC - logits_BV.logsumexp(-1, keepdim=True)

    fill(0, logits_BV)
    if to_run:
        hidden_NBE = _run_nodes(model, cache, tree, to_run)
        at_once = max(1, CHUNK_ROWS // len(rows))
        for first in range(0, len(to_run), at_once):
            go_on()
            nodes = to_run[first : first + at_once]
            # The head gets a matrix: with three dimensions that lie apart its weights are copied for every row.
            logits_TV = logits_of(model, hidden_NBE[first : first + at_once].flatten(0, 1)).float()
            for node, logits_BV in zip(nodes, logits_TV.split(len(rows)), strict=True):
                fill(node, logits_BV)
    return edges_BN.cpu().unbind()


def _run_nodes(model: PreTrainedModel, cache: RowCache, tree: ChoiceTree, nodes: Sequence[int]) -> torch.Tensor:
    """Hidden states of some of the tree's nodes [N, B, E]: each sees its prompt, its ancestors and itself."""
    place_of = {node: place for place, node in enumerate(nodes)}
    parents = [place_of.get(tree.parents[node]) for node in nodes]
    attention = branched(cache, parents, [tree.depths[node] - 1 for node in nodes])
    num_rows = len(cache.lengths)
    ids_N = torch.tensor([tree.token_ids[node] for node in nodes], device=model.device)
    hidden_TE = run(model, ids_N.repeat(num_rows)[None], attention.positions_1T, attention)
    return hidden_TE.view(num_rows, len(nodes), -1).transpose(0, 1).contiguous()
