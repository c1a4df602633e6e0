"""The attention module of known classes with its projections run together and its rotary embedding as one function.

Legend: T tokens, E hidden size, D head size.
"""

from __future__ import annotations

from typing import Any

import torch

from fettle.models.functions import call
from fettle.models.lora_linear import project
from fettle.models.replaced_forwards import Forward
from fettle.models.rotary import Rotary
from fettle.models.segment_attention import AttentionForm

_KNOWN = {"LlamaAttention", "MistralAttention", "Qwen2Attention", "Qwen3Attention", "SmolLM3Attention"}
"""Classes that compute o(attention(rotary(norm(q(x))), rotary(norm(k(x))), v(x))), norms and rotary being optional."""


def fused_attention(module: Any) -> Forward | None:
    """The forward of an attention module of a known class; None for other modules."""
    if type(module).__name__ not in _KNOWN:
        return None
    # Mistral's layers all have the window of the config; those of the others have their own, or none.
    window_owner = module.config if type(module).__name__ == "MistralAttention" else module
    form = AttentionForm(scaling=module.scaling, window=getattr(window_owner, "sliding_window", None))
    query_norm, key_norm = getattr(module, "q_norm", None), getattr(module, "k_norm", None)  # Qwen3 has them
    turns = getattr(module, "use_rope", True)  # some layers of SmolLM3 know no positions

    def forward(
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        *,
        fettle_attention: Any,
        **_others: Any,
    ) -> tuple[torch.Tensor, None]:
        assert attention_mask is None, "the packed rows say themselves what attends to what"
        assert past_key_values is None, "keys are kept by `fettle_attention`"
        projected = project(hidden_states[0], (module.q_proj, module.k_proj, module.v_proj))
        query_TXD, key_THD, value_THD = (x_TE.view(len(x_TE), -1, module.head_dim) for x_TE in projected)
        if query_norm is not None and key_norm is not None:
            query_TXD, key_THD = query_norm(query_TXD), key_norm(key_THD)
        if turns:
            angles = [angles_1TD[0] for angles_1TD in position_embeddings]
            query_TXD, key_THD = call(Rotary, query_TXD, *angles), call(Rotary, key_THD, *angles)
        attended_TXD = fettle_attention.attend(module.layer_idx, query_TXD, key_THD, value_THD, form)
        return module.o_proj(attended_TXD.flatten(1)[None]), None

    return forward  # pyright: ignore[reportReturnType] (an attention module gives a pair)
