"""Causal attention of packed rows over prefixes they share by PyTorch's FlexAttention: one GPU kernel for the whole plan that
passes over every block of keys that a block of queries does not see.

It computes what `fettle.models.segment_attention` does, from the same plan. Many small products, which keep a processor's cache
warm, leave a GPU waiting for the next one; a mask over all tokens costs it little where it is made of blocks.

Compiling. One kernel is compiled for all lengths (`dynamic`), at the first step. Lengths are filled up to whole blocks, so that no
kernel looks for a ragged end. Another one is compiled for a single block of queries, with gradients and without, for a pool of
earlier keys, and for each scale and cap: a few each run, some seconds each. The rest of the step runs as written.

Who sees whom is four numbers a token. All rows are put in the order of their paths: the stretches before them and their own. Rows
that pass through a stretch are then neighbours, from a first to a last, so a key is seen by queries whose row lies between the two
and whose position is not before its own. No path is followed in the kernel.

Legend: T tokens of the packed rows, C keys of the pool, K keys: the pool's, filled up to whole blocks, and then those of the packed
rows; X query heads, H key/value heads, D head size.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from fettle.models.device import tensor_on
from fettle.models.packing import GPU_BLOCK, PackedRows, Span
from fettle.models.segment_attention import AttentionForm

_LEAST_HEAD_SIZE = 16
"""Smaller heads are refused by the kernel."""
_MOST_VARIANTS = 64
"""Kernels that are compiled in one process before it is an error: a handful a model, many models in a test suite."""

Mask = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def flex_applies(query_TXD: torch.Tensor) -> bool:
    """Whether these queries attend through FlexAttention: on CUDA, in 16 bits.

    Elsewhere it has no backward pass. fp32 is asked for to be exact, and large heads in fp32 may not fit the memory that its
    kernels work in: there the products of `SegmentAttention` are taken.
    """
    return query_TXD.is_cuda and query_TXD.dtype is not torch.float32 and query_TXD.shape[-1] >= _LEAST_HEAD_SIZE


def flex_attended(
    query_TXD: torch.Tensor,
    key_THD: torch.Tensor,
    value_THD: torch.Tensor,
    pool_key_HCD: torch.Tensor | None,
    pool_value_HCD: torch.Tensor | None,
    packed: PackedRows,
    form: AttentionForm,
) -> torch.Tensor:
    """The attended values [T, X, D] of packed rows. Filling attends to nothing and gets zeros."""
    pool_length = 0 if pool_key_HCD is None else pool_key_HCD.shape[1]
    attend = _compiled() if query_TXD.is_cuda else flex_attention
    # Scale and cap are constants of the kernel: as variables, which `dynamic` makes of them, they cannot be traced.
    with torch._dynamo.config.patch(recompile_limit=_MOST_VARIANTS, specialize_float=True):
        out_1XTD: Any = attend(
            query_TXD.transpose(0, 1)[None],
            _with_pool(pool_key_HCD, key_THD),
            _with_pool(pool_value_HCD, value_THD),
            score_mod=None if form.softcap is None else _soft_capping(form.softcap),
            block_mask=_block_mask(packed, pool_length, form.window),
            scale=form.scaling,
            enable_gqa=True,
        )
    return out_1XTD[0].transpose(0, 1)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., torch.Tensor]:
    """One kernel for all lengths. `fullgraph`: it never falls back, unasked, to a way that holds all scores at once.

    In this process: a pool of compilers would be started for a few kernels, and outlive a process that is killed.
    """
    import torch._inductor.config as inductor

    inductor.compile_threads = 1
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)  # pyright: ignore[reportReturnType]


@lru_cache(maxsize=8)
def _soft_capping(cap: float) -> Callable[..., torch.Tensor]:
    def capped(score: torch.Tensor, _b: Any, _h: Any, _q: Any, _k: Any) -> torch.Tensor:
        return cap * torch.tanh(score / cap)

    return capped


def _with_pool(pool_HCD: torch.Tensor | None, key_THD: torch.Tensor) -> torch.Tensor:
    """[1, H, K, D]."""
    own_HTD = key_THD.transpose(0, 1)
    if pool_HCD is None:
        return own_HTD[None]
    heads, length, size = pool_HCD.shape
    filling = pool_HCD.new_zeros((heads, whole_blocks(length) - length, size))
    return torch.cat((pool_HCD, filling, own_HTD), dim=1)[None]


def whole_blocks(length: int) -> int:
    """The next multiple of a block.

    >>> whole_blocks(0), whole_blocks(1), whole_blocks(128)
    (0, 128, 128)
    """
    return -(-length // GPU_BLOCK) * GPU_BLOCK


def _block_mask(packed: PackedRows, pool_length: int, window: int | None) -> BlockMask:
    """Made once for all layers of a call that have this window."""
    key = ("flex", pool_length, window)
    if key not in packed.derived:
        sight = _sight(packed, pool_length)
        packed.derived[key] = create_block_mask(
            sight.mask(window),
            B=None,
            H=None,
            Q_LEN=len(sight.rank_T),
            KV_LEN=len(sight.position_K),
            device=sight.rank_T.device,
            BLOCK_SIZE=GPU_BLOCK,
        )
    return packed.derived[key]


@dataclass(frozen=True, slots=True)
class Sight:
    """Who sees whom; all int32."""

    rank_T: torch.Tensor
    """Place of each query's row in the order of paths; -1: filling."""
    position_T: torch.Tensor
    first_K: torch.Tensor
    """The rank of the first row that passes through each key."""
    last_K: torch.Tensor
    """That of the last one; before the first: none, it is filling."""
    position_K: torch.Tensor

    def mask(self, window: int | None) -> Mask:
        """Whether a query sees a key, as FlexAttention asks it."""
        rank_T, position_T = self.rank_T, self.position_T
        first_K, last_K, position_K = self.first_K, self.last_K, self.position_K
        # A tensor, not the number: one kernel for all windows and for none.
        least_T = torch.zeros_like(position_T) if window is None else position_T - (window - 1)

        def sees(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            passes = (first_K[key] <= rank_T[query]) & (rank_T[query] <= last_K[key])
            return passes & (position_K[key] <= position_T[query]) & (least_T[query] <= position_K[key])

        return sees


def _sight(packed: PackedRows, pool_length: int) -> Sight:
    key = ("sight", pool_length)
    if key not in packed.derived:
        packed.derived[key] = sight_of(packed, pool_length)
    return packed.derived[key]


def sight_of(packed: PackedRows, pool_length: int) -> Sight:
    """Who sees whom in packed rows that come after a pool of `pool_length` keys; 0: prefixes are spans of the packed rows."""
    own_start = whole_blocks(pool_length)
    paths = [
        (*prefix.spans, Span(own_start + start, own_start + end + 1))
        for prefix, start, end in zip(packed.prefixes, packed.starts, packed.ends, strict=True)
    ]
    device, num_queries = packed.ids_1T.device, packed.ids_1T.shape[1]
    ranks, first, last, position = _ranks(paths, own_start + num_queries)
    rank_T = np.full(num_queries, -1)
    rank_T[: packed.num_tokens] = np.repeat(ranks, [path[-1].length for path in paths])
    return Sight(
        rank_T=tensor_on(device, rank_T, torch.int32),
        position_T=packed.positions_1T[0].int(),
        first_K=tensor_on(device, first, torch.int32),
        last_K=tensor_on(device, last, torch.int32),
        position_K=tensor_on(device, position, torch.int32),
    )


def _ranks(paths: Sequence[Sequence[Span]], num_keys: int) -> tuple[Any, Any, Any, Any]:
    """The rank of each row, and for each key the ranks of the first and last row that see it, and its position."""
    cuts = sorted({edge for path in paths for span in path for edge in (span.start, span.end)})
    stretches = [
        [number for span in path for number in range(bisect_left(cuts, span.start), bisect_left(cuts, span.end))]
        for path in paths
    ]
    ranks = np.empty(len(paths), dtype=np.int64)
    first, last, position = np.full(num_keys, 1), np.zeros(num_keys, dtype=np.int64), np.zeros(num_keys, dtype=np.int64)
    num_passing = np.zeros(num_keys, dtype=np.int64)
    for rank, row in enumerate(sorted(range(len(paths)), key=stretches.__getitem__)):
        ranks[row], place = rank, 0
        for number in stretches[row]:
            keys = slice(cuts[number], cuts[number + 1])
            length = cuts[number + 1] - cuts[number]
            if not num_passing[keys.start]:
                first[keys], position[keys] = rank, np.arange(place, place + length)
            last[keys] = rank
            num_passing[keys] += 1
            place += length
    assert np.all((num_passing == last - first + 1) | (num_passing == 0)), "prefixes are a tree"
    return ranks, first, last, position
