"""Our attention inside a transformers model: put in by name for a while, taken out again.

Transformers lets attention functions be registered and chosen by name; what the function needs to know about the rows travels as
a keyword of the forward call. Nothing of the library is replaced, and of the model only the forward of norms, MLPs and attention
modules of known classes, for that while.

Legend: T tokens, X query heads, H key/value heads, D head size, E hidden size, C tokens computed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers import AttentionInterface

from fettle.errors import ModelError
from fettle.models.attention_layer import fused_attention
from fettle.models.flex_attention import flex_applies, flex_attended
from fettle.models.functions import call
from fettle.models.packing import PackedRows
from fettle.models.replaced_forwards import Forward, replaced_forwards
from fettle.models.rms_norm import fused_norm
from fettle.models.segment_attention import AttentionForm, SegmentAttention
from fettle.models.swiglu import fused_mlp

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KeyValues = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Of tokens computed before, per layer: keys and values, each [H, C, D]."""

_NAME = "fettle"


class Attention(Protocol):
    """What a layer's queries attend to."""

    def attend(
        self, layer: int, query_TXD: torch.Tensor, key_THD: torch.Tensor, value_THD: torch.Tensor, form: AttentionForm
    ) -> torch.Tensor:
        """The attended values [T, X, D] of new tokens, rotary embedding and norms having been applied."""
        ...


class PackedAttention:
    """Packed rows attend to their prefixes and to themselves.

    Args:
        packed: The rows.
        pool: Keys and values that their prefixes are spans of; None: they are spans of the packed row.
        on_keys: Is given each layer's number, keys and values [T, H, D].
    """

    def __init__(
        self,
        packed: PackedRows,
        pool: KeyValues | None = None,
        on_keys: Callable[[int, torch.Tensor, torch.Tensor], None] | None = None,
    ) -> None:
        assert pool is not None or packed.holds_its_prefixes, "what rows come after is in a pool or stands before them"
        self._packed, self._pool, self._on_keys = packed, pool, on_keys

    def attend(
        self, layer: int, query_TXD: torch.Tensor, key_THD: torch.Tensor, value_THD: torch.Tensor, form: AttentionForm
    ) -> torch.Tensor:
        """See `Attention`."""
        if self._on_keys is not None:
            self._on_keys(layer, key_THD, value_THD)
        pool = (None, None) if self._pool is None else self._pool[layer]
        if flex_applies(query_TXD):
            return flex_attended(query_TXD, key_THD, value_THD, *pool, self._packed, form)
        return call(SegmentAttention, query_TXD, key_THD, value_THD, *pool, self._packed, form)  # pyright: ignore[reportReturnType]


class JoinedAttention:
    """Tokens that lie side by side attend by different rules.

    Args:
        parts: Each with the number of its tokens, in their order.
    """

    def __init__(self, parts: Sequence[tuple[Attention, int]]) -> None:
        self._attentions, self._lengths = zip(*parts, strict=True)

    def attend(
        self, layer: int, query_TXD: torch.Tensor, key_THD: torch.Tensor, value_THD: torch.Tensor, form: AttentionForm
    ) -> torch.Tensor:
        """See `Attention`."""
        split = (x.split(self._lengths) for x in (query_TXD, key_THD, value_THD))
        return torch.cat(
            [
                attention.attend(layer, query, key, value, form)
                for attention, query, key, value in zip(self._attentions, *split, strict=True)
            ]
        )


def chooses_attention(model: PreTrainedModel) -> bool:
    """Whether a model's class lets its attention be chosen by name."""
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(_NAME)
        return model.config._attn_implementation == _NAME
    finally:
        if before is not None:
            model.set_attn_implementation(before)


@contextmanager
def own_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it the model attends through `run`, and its norms, rotary embeddings and the activations of its MLPs run as one
    function each; afterwards as before.

    Raises:
        ModelError: The model's class does not choose its attention by name.
    """
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(_NAME)
        if model.config._attn_implementation != _NAME:
            raise ModelError(
                f"{type(model).__name__} does not go through transformers' attention interface",
                remedy="use a model of a newer class, such as Llama, Qwen, Mistral, Gemma, Phi-3, SmolLM or OLMo",
            )
        with replaced_forwards(model, _fused):
            yield
    finally:
        if before is not None:
            model.set_attn_implementation(before)


def _fused(module: torch.nn.Module) -> Forward | None:
    return fused_attention(module) or fused_norm(module) or fused_mlp(module)


def run(model: PreTrainedModel, ids_1T: torch.Tensor, positions_1T: torch.Tensor, attention: Attention) -> torch.Tensor:
    """Last hidden states [T, E] of some tokens, inside `own_attention`."""
    return model.base_model(
        input_ids=ids_1T, position_ids=positions_1T, use_cache=False, fettle_attention=attention
    ).last_hidden_state[0]


def _forward(
    module: torch.nn.Module,
    query_1XTD: torch.Tensor,
    key_1HTD: torch.Tensor,
    value_1HTD: torch.Tensor,
    _mask: torch.Tensor | None,
    *,
    scaling: float,
    fettle_attention: Attention,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_others: Any,
) -> tuple[torch.Tensor, None]:
    """The function that transformers calls in each layer."""
    form = AttentionForm(scaling=scaling, window=sliding_window, softcap=softcap)
    query_TXD, key_THD, value_THD = (x[0].transpose(0, 1) for x in (query_1XTD, key_1HTD, value_1HTD))
    layer: int = module.layer_idx  # pyright: ignore[reportAssignmentType] (attention modules have one)
    return fettle_attention.attend(layer, query_TXD, key_THD, value_THD, form)[None], None


# No mask function goes with it: the library then makes none, and does not look at all positions for where rows begin.
AttentionInterface.register(_NAME, _forward)
