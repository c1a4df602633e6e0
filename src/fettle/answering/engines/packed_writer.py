"""What follows some rows of tokens, by running the model on all of them at once.

Rows share their common prefix, which is computed and kept once, and leave the batch when they are finished.

Legend: B rows, N tree nodes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fettle.answering.choices import ChoiceTree
from fettle.answering.engines.row_threads import GoOn, in_shares
from fettle.answering.engines.running_batch import NOTHING_SHARED, Row, RunningBatch, SharedPrefix, prefilled
from fettle.answering.engines.tree_edges import edges_after
from fettle.models.load import LoadedModel
from fettle.models.own_attention import own_attention
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
        with torch.inference_mode(), own_attention(self._model):
            batch = RunningBatch(self._model)
            batch.join(rows, self._prefix_of([row.token_ids for row in rows]))
            while batch.num_open:
                batch.step()

    def edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> Sequence[torch.Tensor]:
        """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""

        def walk(share: Sequence[Sequence[int]], go_on: GoOn) -> tuple[torch.Tensor, ...]:
            return edges_after(self._model, share, prefix, tree, go_on=go_on)

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
