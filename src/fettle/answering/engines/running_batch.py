"""Rows that are written together: they join between two steps, and leave when they are whole.

All rows go through the model at once, whatever prefix they come after and whichever adapter answers them; only attention, and the
updates of the adapters, are made for each group of rows that share both.

Legend: B rows, T tokens of all rows, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from fettle.answering.writing import AnswerInWriting, take_next
from fettle.models.head import logits_of
from fettle.models.own_attention import Attention, JoinedAttention, KeyValues, PackedAttention, run
from fettle.models.packing import Prefix, pack_rows
from fettle.models.routed_adapters import Route, RoutedAdapters
from fettle.models.row_cache import RowCache, continued
from fettle.models.shared_prefix import num_heads
from fettle.models.token_groups import token_groups

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFILL_TOKENS = 4096
"""Tokens run at once: with more of them, what lies between two layers leaves the processor's cache."""
_COMPACT_BELOW = 0.75  # drop finished rows from the batch when fewer than this share are still being written


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """What some prompts begin with, computed."""

    token_ids: tuple[int, ...]
    key_values: KeyValues | None
    """None for no tokens."""


NOTHING_SHARED = SharedPrefix((), None)


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and its answer."""

    token_ids: Sequence[int]
    answer: AnswerInWriting


@dataclass(slots=True)
class _Group:
    """Rows after one prefix that one adapter answers."""

    prefix: SharedPrefix
    adapter: str | None
    cache: RowCache
    rows: list[Row]
    new: list[list[int]] = field(default_factory=list)
    """For each row the tokens to be run next."""

    @property
    def num_new(self) -> int:
        return sum(map(len, self.new))

    def join(self, other: _Group) -> None:
        self.cache.join(other.cache)
        self.rows += other.rows
        self.new += other.new

    def drop_finished(self) -> None:
        """Let whole answers leave, once they are enough to be worth the copying."""
        is_open = [index for index, row in enumerate(self.rows) if row.answer.is_open]
        if is_open and len(is_open) < _COMPACT_BELOW * len(self.rows):
            self.keep(is_open)

    def keep(self, indices: Sequence[int]) -> None:
        """Let all other rows leave."""
        self.cache.select(indices)
        self.rows = [self.rows[index] for index in indices]
        self.new = [self.new[index] for index in indices]


class RunningBatch:
    """Runs a model on rows that come and go. To be used inside `own_attention`.

    Args:
        model: The model.
        adapters: Those that rows may be answered by; None: all rows are answered by the model as it is.
    """

    def __init__(self, model: PreTrainedModel, *, adapters: RoutedAdapters | None = None) -> None:
        self._model, self._adapters = model, adapters
        self._groups: list[_Group] = []

    @property
    def num_open(self) -> int:
        """Rows that are being written."""
        return sum(row.answer.is_open for group in self._groups for row in group.rows)

    @property
    def num_slots(self) -> int:
        """Tokens that there is room for in the keys and values of all rows, used or not."""
        return sum(len(group.rows) * group.cache.num_slots for group in self._groups)

    def leave(self, answer: AnswerInWriting) -> None:
        """Let a row go whose answer is not whole. To go on with it, its prompt and what was written join again."""
        self._keep(lambda row: row.answer is not answer)

    def drop_finished(self) -> None:
        """Let all whole answers leave now, which costs a copy of the others."""
        self._keep(lambda row: row.answer.is_open)

    def _keep(self, is_kept: Callable[[Row], bool]) -> None:
        for group in self._groups:
            kept = [index for index, row in enumerate(group.rows) if is_kept(row)]
            if not kept:
                group.rows = []
            elif len(kept) < len(group.rows):
                group.keep(kept)
        self._groups = [group for group in self._groups if group.rows]

    def join(self, rows: Sequence[Row], prefix: SharedPrefix = NOTHING_SHARED, *, adapter: str | None = None) -> None:
        """Run some prompts after their prefix, and choose the first token of each answer."""
        with self._answered_by([Route(adapter, None)]):
            cache, logits_BV = prefilled(self._model, [row.token_ids for row in rows], prefix)
        joining = _Group(prefix, adapter, cache, list(rows))
        joining.new = take_next([row.answer for row in rows], logits_BV)
        for group in self._groups:
            if group.prefix is prefix and group.adapter == adapter:
                group.join(joining)
                return
        self._groups.append(joining)
        self._groups.sort(key=lambda group: group.adapter or "")  # rows of one adapter lie side by side

    def step(self) -> None:
        """Run what was written last, and choose what comes next for every open row."""
        self._groups = [group for group in self._groups if any(row.answer.is_open for row in group.rows)]
        for group in self._groups:
            group.drop_finished()
        if not self._groups:
            return
        new = [tokens for group in self._groups for tokens in group.new]
        attentions = [(continued(group.cache, group.new), group.num_new) for group in self._groups]
        ids_1T = torch.tensor([token for tokens in new for token in tokens], device=self._model.device)[None]
        positions_1T = torch.cat([attention.positions_1T for attention, _ in attentions], dim=1)
        attention: Attention = attentions[0][0] if len(attentions) == 1 else JoinedAttention(attentions)
        with self._answered_by([Route(group.adapter, group.num_new) for group in self._groups]):
            hidden_TE = run(self._model, ids_1T, positions_1T, attention)
        ends = list(accumulate(len(tokens) for tokens in new))
        logits_BV = logits_of(self._model, hidden_TE[[end - 1 for end in ends]]).float()
        for group, of_group_BV in zip(
            self._groups, logits_BV.split([len(group.rows) for group in self._groups]), strict=True
        ):
            group.new = take_next([row.answer for row in group.rows], of_group_BV)

    def _answered_by(self, routes: Sequence[Route]) -> AbstractContextManager[None]:
        return self._adapters.serving(routes) if self._adapters else nullcontext()


def prefilled(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    prefix: SharedPrefix,
    *,
    go_on: Callable[[], None] = lambda: None,
) -> tuple[RowCache, torch.Tensor]:
    """Run prompts after their prefix; what to go on from, and the logits [B, V] of the next token, fp32.

    `go_on` is called now and then, and raises where nobody waits for the result any more.
    """
    length = len(prefix.token_ids)
    own = [row[length:] for row in rows]
    cache = RowCache(prefix.key_values, lengths=[len(row) for row in own])
    last_states: list[torch.Tensor] = []
    for part in token_groups([len(row) for row in own], max_tokens=PREFILL_TOKENS):
        go_on()
        packed = pack_rows(
            own[part.start : part.stop],
            after=Prefix.of_length(length),
            num_heads=num_heads(model),
            device=model.device,
        )
        on_keys = partial(cache.fill, packed=packed, first_row=part.start)
        attention = PackedAttention(packed, prefix.key_values, on_keys)
        hidden_TE = run(model, packed.ids_1T, packed.positions_1T, attention)
        last_states.append(hidden_TE[list(packed.ends)])
    return cache, logits_of(model, torch.cat(last_states)).float()
