"""What prompts begin with, kept from one request to the next.

A prompt whose beginning was seen before, in whole or in part, is not run from its first token: what two prompts share is computed
once and kept. The least recently used beginnings go when the memory for them is full.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from fettle.answering.engines.running_batch import NOTHING_SHARED, SharedPrefix
from fettle.models.packing import ALIGNMENT
from fettle.models.prefix_tree import common_length
from fettle.models.row_cache import key_value_bytes
from fettle.models.shared_prefix import prefix_key_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

_LEAST_SHARED = 4 * ALIGNMENT
"""Fewer tokens are not worth keeping."""
_NUM_REMEMBERED = 64
"""Prompts whose tokens are compared with the next one."""


class PrefixStore:
    """Computed beginnings of prompts, by the adapter that computed them. To be used inside `own_attention`.

    Args:
        model: Computes them, with the adapter in place.
        max_bytes: Of keys and values that are kept.
    """

    def __init__(self, model: PreTrainedModel, *, max_bytes: int) -> None:
        self._model, self._max_tokens = model, max_bytes // key_value_bytes(model)
        self._kept: OrderedDict[tuple[str | None, tuple[int, ...]], SharedPrefix] = OrderedDict()
        self._remembered: deque[tuple[str | None, tuple[int, ...]]] = deque(maxlen=_NUM_REMEMBERED)

    @property
    def num_tokens(self) -> int:
        """Tokens whose keys and values are kept."""
        return sum(len(token_ids) for _, token_ids in self._kept)

    def prefix_of(self, prompt: Sequence[int], adapter: str | None, *, is_one_of_many: bool = False) -> SharedPrefix:
        """The longest beginning of a prompt, less than all of it, that an earlier one has as well; computed now if it must be.

        `is_one_of_many`: the same prompt is to come again at once.
        """
        row = tuple(prompt)
        if is_one_of_many and (adapter, row) not in self._remembered:
            self._remembered.append((adapter, row))
        seen = [token_ids for name, token_ids in self._remembered if name == adapter]
        longest = max((common_length(row, other) for other in seen), default=0) // ALIGNMENT * ALIGNMENT
        self._remembered.append((adapter, row))
        kept = [ids for name, ids in self._kept if name == adapter and len(ids) < len(row) and row[: len(ids)] == ids]
        best: tuple[int, ...] = max(kept, key=len, default=())
        # One that is nearly as long as what could be had is better than another copy of it.
        if best and longest - len(best) < _LEAST_SHARED:
            self._kept.move_to_end((adapter, best))
            return self._kept[adapter, best]
        if longest < _LEAST_SHARED or longest > self._max_tokens:
            return NOTHING_SHARED
        prefix = SharedPrefix(row[:longest], prefix_key_values(self._model, row[:longest]))
        self._kept[adapter, prefix.token_ids] = prefix
        while self.num_tokens > self._max_tokens:
            self._kept.popitem(last=False)
        return prefix

    def forget(self, adapter: str) -> None:
        """Drop what an adapter computed: its name may come to mean another one."""
        for key in [key for key in self._kept if key[0] == adapter]:
            del self._kept[key]
        remaining = [entry for entry in self._remembered if entry[0] != adapter]
        self._remembered.clear()
        self._remembered.extend(remaining)
