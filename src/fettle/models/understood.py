"""Whether Fettle's way of running a model gives what the model's own forward gives: shown before anything is trained or answered.

Model classes differ in what they do around attention and after their head. What Fettle did not know would go unnoticed and make
every number wrong, so a model that is not understood is run in the plain way, by its own forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from fettle.errors import IntegrityError, ModelError
from fettle.models.head import logits_of
from fettle.models.own_attention import PackedAttention, chooses_attention, own_attention, run
from fettle.models.packing import ALIGNMENT, Prefix, pack_rows
from fettle.models.segment_attention import AttentionForm
from fettle.models.shared_prefix import num_heads, prefix_key_values

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_MOST_DIFFERENCE = 0.05  # of the logits' spread; bf16 differs by about 0.01, a wrong scale or mask by far more


def require_understood(model: PreTrainedModel) -> None:
    """Show that packed rows after a shared prefix get the logits of the model's own forward.

    Raises:
        ModelError: The model is damaged.
        IntegrityError: They do not, or the model cannot be run that way.
    """
    if reason := why_not_understood(model):
        raise IntegrityError(
            f"{type(model).__name__} cannot be run in packed rows: {reason}", remedy="run it in the plain way"
        )


def why_not_understood(model: PreTrainedModel) -> str | None:
    """Why a model cannot be run in packed rows after a shared prefix; None: it can, and gives what its own forward gives.

    Raises:
        ModelError: The model is damaged.
    """
    config = model.config.get_text_config()
    layer_types = getattr(config, "layer_types", None)  # most configs have none: all layers are alike
    if unknown := sorted(set(layer_types or ()) - _KNOWN_LAYERS):
        return f"it has layers of another kind than attention ({', '.join(unknown)})"
    if getattr(config, "num_attention_heads", None) is None:
        return "it has no attention"
    ids = [(4 + 7 * place) % config.vocab_size for place in range(2 * ALIGNMENT)]
    prefix, rows = ids[:ALIGNMENT], [ids[ALIGNMENT:], ids[: ALIGNMENT // 2]]
    with torch.no_grad():
        plain_TV = torch.cat([own_logits(model, [*prefix, *row])[len(prefix) :] for row in rows])
        if not bool(plain_TV.isfinite().all()):
            raise ModelError(
                "the model's own answers are not finite numbers: its weights are damaged",
                remedy="take an undamaged copy of the weights, or use --precision exact",
            )
        if not chooses_attention(model):
            return "its class does not go through transformers' attention interface"
        try:
            ours_TV, windowed = _packed_logits(model, prefix, rows)
        except (TypeError, ValueError, AttributeError, RuntimeError, KeyError, IndexError) as error:
            return (
                f"its class is built otherwise ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]})"
            )
    difference = float((ours_TV - plain_TV).std() / plain_TV.std())
    if not difference < _MOST_DIFFERENCE:
        return f"it does something Fettle does not know, its own logits differ by {difference:.0%}"
    if layer_types is not None and windowed != [kind == "sliding_attention" for kind in layer_types]:
        return "its layers do not pass on their sliding window"
    return None


def own_logits(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """What the model's own forward gives for one row [T, V], fp32."""
    return model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0].float()


def _packed_logits(model: PreTrainedModel, prefix: list[int], rows: list[list[int]]) -> tuple[torch.Tensor, list[bool]]:
    """What packed rows give [T, V], fp32, and which layers have a window."""
    with own_attention(model):
        computed = prefix_key_values(model, prefix)
        packed = pack_rows(rows, after=Prefix.of_length(len(prefix)), num_heads=num_heads(model), device=model.device)
        attention = _Watched(PackedAttention(packed, computed))
        hidden_TE = run(model, packed.ids_1T, packed.positions_1T, attention)[: packed.num_tokens]
    return logits_of(model, hidden_TE).float(), attention.windowed


@dataclass(slots=True)
class _Watched:
    """Notes which layers have a window."""

    attention: PackedAttention
    windowed: list[bool] = field(default_factory=list)

    def attend(
        self, layer: int, query_TXD: torch.Tensor, key_THD: torch.Tensor, value_THD: torch.Tensor, form: AttentionForm
    ) -> torch.Tensor:
        self.windowed.append(form.window is not None)
        return self.attention.attend(layer, query_TXD, key_THD, value_THD, form)
