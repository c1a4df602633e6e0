"""What follows some rows of tokens, by running the model on all of them at once.

Rows share their common prefix, which is computed and kept once, and leave the batch when they are finished.

Legend: B rows, T tokens of all rows, N tree nodes, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fettle.answering.choices import ChoiceTree
from fettle.answering.engines.row_threads import GoOn, in_shares
from fettle.answering.engines.running_batch import NOTHING_SHARED, Row, RunningBatch, SharedPrefix, prefilled
from fettle.models.head import CHUNK_ROWS, logits_of
from fettle.models.load import LoadedModel
from fettle.models.own_attention import own_attention, run
from fettle.models.row_cache import RowCache, branched
from fettle.models.shared_prefix import common_prefix_length, prefix_key_values, shared_length


class PackedWriter:
    """Runs a model, with whatever adapter is on it, on packed rows.

    Args:
        loaded: The model; it must be one that packed rows fit.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded, self._model = loaded, loaded.model
        self._last_prefix = NOTHING_SHARED

    def forget(self) -> None:
        """Drop the prefix that is kept for the next batch: the model is no longer the same."""
        self._last_prefix = NOTHING_SHARED

    def first_logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits [B, V] of the first token after each row, fp32."""
        with own_attention(self._model):
            return prefilled(self._model, rows, NOTHING_SHARED)[1]

    def write(self, rows: Sequence[Row]) -> None:
        """Write the answer of every row."""

        def write(share: Sequence[Row], go_on: GoOn) -> Sequence[None]:
            batch = RunningBatch(self._model, go_on)
            batch.join(share, prefix)
            while batch.num_open:
                batch.step()
            return [None] * len(share)

        with own_attention(self._model):
            prefix = self._prefix_of([row.token_ids for row in rows])
            in_shares(write, rows, device=self._model.device)

    def edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> Sequence[torch.Tensor]:
        """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""

        def walk(share: Sequence[Sequence[int]], go_on: GoOn) -> tuple[torch.Tensor, ...]:
            return self._edge_log_probs(share, prefix, tree, go_on)

        with own_attention(self._model):
            prefix = self._prefix_of(rows)
            return in_shares(walk, rows, device=self._model.device)

    def _prefix_of(self, rows: Sequence[Sequence[int]]) -> SharedPrefix:
        """What all rows begin with, computed at most once for batches that follow each other.

        How long it is depends on the rows alone, so the answers do not depend on what was asked before.
        """
        length = shared_length(common_prefix_length(rows), len(rows))
        if not length:
            return NOTHING_SHARED  # what is kept stays: a prompt by itself says nothing about the next batch
        token_ids = tuple(rows[0][:length])
        if token_ids != self._last_prefix.token_ids:
            with torch.inference_mode():
                self._last_prefix = SharedPrefix(token_ids, prefix_key_values(self._model, token_ids))
        return self._last_prefix

    def _edge_log_probs(
        self, rows: Sequence[Sequence[int]], prefix: SharedPrefix, tree: ChoiceTree, go_on: GoOn
    ) -> tuple[torch.Tensor, ...]:
        """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""
        to_run = tree.nodes_to_run
        cache, logits_BV = prefilled(self._model, rows, prefix, go_on=go_on)
        edges_BN = torch.zeros(len(rows), len(tree.token_ids), device=logits_BV.device)

        def fill(node: int, logits_BV: torch.Tensor) -> None:
            below = list(tree.children[node])
            children_BC = logits_BV[:, [tree.token_ids[child] for child in below]]
            edges_BN[:, below] = children_BC - logits_BV.logsumexp(-1, keepdim=True)

        fill(0, logits_BV)
        if to_run:
            hidden_NBE = self._run_nodes(cache, tree, to_run)
            at_once = max(1, CHUNK_ROWS // len(rows))
            for first in range(0, len(to_run), at_once):
                go_on()
                nodes = to_run[first : first + at_once]
                # The head gets a matrix: with three dimensions that lie apart its weights are copied for every row.
                logits_TV = logits_of(self._model, hidden_NBE[first : first + at_once].flatten(0, 1)).float()
                for node, logits_BV in zip(nodes, logits_TV.split(len(rows)), strict=True):
                    fill(node, logits_BV)
        return edges_BN.cpu().unbind()

    def _run_nodes(self, cache: RowCache, tree: ChoiceTree, nodes: Sequence[int]) -> torch.Tensor:
        """Hidden states of some of the tree's nodes [N, B, E]: each sees its prompt, its ancestors and itself."""
        place_of = {node: place for place, node in enumerate(nodes)}
        parents = [place_of.get(tree.parents[node]) for node in nodes]
        attention = branched(cache, parents, [tree.depths[node] - 1 for node in nodes])
        num_rows = len(cache.lengths)
        ids_N = torch.tensor([tree.token_ids[node] for node in nodes], device=self._model.device)
        hidden_TE = run(self._model, ids_N.repeat(num_rows)[None], attention.positions_1T, attention)
        return hidden_TE.view(num_rows, len(nodes), -1).transpose(0, 1).contiguous()
