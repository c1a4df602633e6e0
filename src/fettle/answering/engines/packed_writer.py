"""What follows some rows of tokens, by running the model on all of them at once.

Rows share their common prefix, which is computed and kept once, and leave the batch when they are finished.

Legend: B rows, T tokens of all rows, N tree nodes, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from fettle.answering.choices import ChoiceTree
from fettle.answering.constrain import JsonConstrainer, mask_logits, take_forced_tokens, take_token
from fettle.answering.engines.row_threads import GoOn, in_shares
from fettle.models.head import CHUNK_ROWS, logits_of
from fettle.models.load import LoadedModel
from fettle.models.own_attention import KeyValues, PackedAttention, own_attention, run
from fettle.models.packing import Prefix, pack_rows
from fettle.models.row_cache import RowCache, branched, continued
from fettle.models.shared_prefix import common_prefix_length, num_heads, prefix_key_values, shared_length
from fettle.models.token_groups import token_groups

if TYPE_CHECKING:
    from llguidance import LLMatcher

_PREFILL_TOKENS = 4096
"""Tokens run at once: with more of them, what lies between two layers leaves the processor's cache."""
_COMPACT_BELOW = 0.75  # drop finished rows from the batch when fewer than this share are still being written


@dataclass(frozen=True, slots=True)
class _SharedPrefix:
    """What all prompts of a batch begin with."""

    token_ids: tuple[int, ...]
    key_values: KeyValues | None
    """None for no tokens."""


_NOTHING_SHARED = _SharedPrefix((), None)


class PackedWriter:
    """Runs a model, with whatever adapter is on it, on packed rows.

    Args:
        loaded: The model; it must be one that packed rows fit.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded, self._model = loaded, loaded.model
        self._last_prefix = _NOTHING_SHARED

    def forget(self) -> None:
        """Drop the prefix that is kept for the next batch: the model is no longer the same."""
        self._last_prefix = _NOTHING_SHARED

    def first_logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits [B, V] of the first token after each row, fp32."""
        with own_attention(self._model):
            return self._prefill(rows, _NOTHING_SHARED, lambda: None)[1]

    def written(
        self, rows: Sequence[Sequence[int]], limits: Sequence[int], constrainer: JsonConstrainer | None
    ) -> list[list[int]]:
        """Greedy tokens after each row, at most as many as its limit, the end of turn included where it was reached."""

        def write(share: Sequence[tuple[Sequence[int], int]], go_on: GoOn) -> list[list[int]]:
            matchers = [constrainer.new_matcher() for _ in share] if constrainer else []
            return self._write([row for row, _ in share], [limit for _, limit in share], prefix, matchers, go_on)

        with own_attention(self._model):
            prefix = self._prefix_of(rows)
            return in_shares(write, list(zip(rows, limits, strict=True)), device=self._model.device)

    def edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> Sequence[torch.Tensor]:
        """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""

        def walk(share: Sequence[Sequence[int]], go_on: GoOn) -> tuple[torch.Tensor, ...]:
            return self._edge_log_probs(share, prefix, tree, go_on)

        with own_attention(self._model):
            prefix = self._prefix_of(rows)
            return in_shares(walk, rows, device=self._model.device)

    def _prefix_of(self, rows: Sequence[Sequence[int]]) -> _SharedPrefix:
        """What all rows begin with, computed at most once for batches that follow each other.

        How long it is depends on the rows alone, so the answers do not depend on what was asked before.
        """
        length = shared_length(common_prefix_length(rows), len(rows))
        token_ids = tuple(rows[0][:length])
        if token_ids != self._last_prefix.token_ids:
            with torch.inference_mode():
                self._last_prefix = _SharedPrefix(token_ids, prefix_key_values(self._model, token_ids))
        return self._last_prefix

    def _prefill(
        self, rows: Sequence[Sequence[int]], prefix: _SharedPrefix, go_on: GoOn
    ) -> tuple[RowCache, torch.Tensor]:
        """Run the prompts after their prefix; what to go on from, and the logits [B, V] of the next token, fp32."""
        model, length = self._model, len(prefix.token_ids)
        own = [row[length:] for row in rows]
        cache = RowCache(prefix.key_values, lengths=[len(row) for row in own])
        last_states: list[torch.Tensor] = []
        for part in token_groups(cache.lengths, max_tokens=_PREFILL_TOKENS):
            go_on()
            rows_of_part = own[part.start : part.stop]
            after = Prefix.of_length(length)
            packed = pack_rows(rows_of_part, after=after, num_heads=num_heads(model), device=model.device)
            on_keys = partial(cache.fill, packed=packed, first_row=part.start)
            hidden_TE = run(
                model, packed.ids_1T, packed.positions_1T, PackedAttention(packed, prefix.key_values, on_keys)
            )
            last_states.append(hidden_TE[list(packed.ends)])
        return cache, logits_of(model, torch.cat(last_states)).float()

    def _write(
        self,
        rows: Sequence[Sequence[int]],
        limits: Sequence[int],
        prefix: _SharedPrefix,
        matchers: Sequence[LLMatcher],
        go_on: GoOn,
    ) -> list[list[int]]:
        """Greedy tokens of every row, the end of turn included where it was reached; no matchers: they are free."""
        cache, logits_BV = self._prefill(rows, prefix, go_on)
        stops = self._loaded.stop_token_ids
        written: list[list[int]] = [[] for _ in rows]
        active = list(range(len(rows)))  # the rows still in the batch, by their number in `rows`
        is_open = [True] * len(rows)
        while True:
            go_on()
            if matchers:
                logits_BV = mask_logits([matchers[row] for row in active], logits_BV)
            new: list[list[int]] = []  # per active row, what it goes on with
            for row, token in zip(active, logits_BV.argmax(dim=-1).tolist(), strict=True):
                tokens = [token]
                if is_open[row]:
                    if matchers and token not in stops:
                        take_token(matchers[row], token)
                        tokens += take_forced_tokens(matchers[row])
                    tokens = tokens[: limits[row] - len(written[row])]
                    written[row] += tokens
                    is_open[row] = len(written[row]) < limits[row] and token not in stops
                new.append(tokens)
            open_now = [index for index, row in enumerate(active) if is_open[row]]
            if not open_now:
                return written
            if len(open_now) < _COMPACT_BELOW * len(active):
                cache.select(open_now)
                new, active = [new[index] for index in open_now], [active[index] for index in open_now]
            logits_BV = self._step(cache, new)

    def _step(self, cache: RowCache, new: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run one or more new tokens per row; logits [B, V] after the last of each."""
        attention = continued(cache, new)
        ids_1T = torch.tensor([token for tokens in new for token in tokens], device=self._model.device)[None]
        hidden_TE = run(self._model, ids_1T, attention.positions_1T, attention)
        ends = list(accumulate(len(tokens) for tokens in new))
        return logits_of(self._model, hidden_TE[[end - 1 for end in ends]]).float()

    def _edge_log_probs(
        self, rows: Sequence[Sequence[int]], prefix: _SharedPrefix, tree: ChoiceTree, go_on: GoOn
    ) -> tuple[torch.Tensor, ...]:
        """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""
        to_run = tree.nodes_to_run
        cache, logits_BV = self._prefill(rows, prefix, go_on)
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
