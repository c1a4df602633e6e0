"""Choices that are others for every prompt, scored in packed passes: each row is a prompt with one path of its own tree.

Legend: N tree nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fettle.answering.choices import ChoiceTree
from fettle.models.head import CHUNK_ROWS
from fettle.models.packed_logits import logits_along
from fettle.models.token_groups import token_groups

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MOST_TOKENS = 2048
"""Tokens that are run at once."""


@dataclass(frozen=True, slots=True)
class _Path:
    """One path through the tree of one prompt."""

    number: int
    """Of the prompt."""
    nodes: tuple[int, ...]


def edges_of_each(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], trees: Sequence[ChoiceTree]
) -> list[torch.Tensor]:
    """Of each row's own tree the log-probability of every node's token given its parent [N + 1], fp32, 0 where it is certain.

    Args:
        model: One that packed rows fit.
        rows: Prompts as tokens.
        trees: The choices of each.
    """
    edges = [torch.zeros(len(tree.token_ids)) for tree in trees]
    paths = [_Path(number, tuple(path)) for number, tree in enumerate(trees) for path in tree.paths_to_run()]
    for some in _groups(paths, rows):
        tokens = [[trees[path.number].token_ids[node] for node in path.nodes] for path in some]
        with torch.inference_mode():
            log_probs_NV = logits_along(model, [rows[path.number] for path in some], tokens).log_softmax(-1).cpu()
        of_paths = log_probs_NV.split([len(path.nodes) + 1 for path in some])
        for path, log_probs_PV in zip(some, of_paths, strict=True):
            tree, edges_N = trees[path.number], edges[path.number]
            for node, log_probs_V in zip((0, *path.nodes), log_probs_PV, strict=True):
                below = list(tree.children[node])
                edges_N[below] = log_probs_V[[tree.token_ids[child] for child in below]]
    return edges


def _groups(paths: Sequence[_Path], rows: Sequence[Sequence[int]]) -> Iterator[Sequence[_Path]]:
    """Neighbours with few enough tokens to be run at once, and few enough places to have logits at once."""
    lengths = [len(rows[path.number]) + len(path.nodes) for path in paths]
    for group in token_groups(lengths, max_tokens=_MOST_TOKENS):
        some = paths[group.start : group.stop]
        for part in token_groups([len(path.nodes) + 1 for path in some], max_tokens=CHUNK_ROWS):
            yield some[part.start : part.stop]
