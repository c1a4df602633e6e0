"""Whether Fettle's way of running a model gives what the model's own forward gives: shown before anything is trained or answered.

Model classes differ in what they do around attention and after their head. What Fettle did not know would go unnoticed and make
every number wrong, so a model that is not understood is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from fettle.errors import IntegrityError, ModelError
from fettle.models.head import logits_of
from fettle.models.own_attention import PackedAttention, own_attention, run
from fettle.models.packing import ALIGNMENT, pack_rows
from fettle.models.segment_attention import AttentionForm
from fettle.models.shared_prefix import num_heads, prefix_key_values

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_MOST_DIFFERENCE = 0.05  # of the logits' spread; bf16 differs by about 0.01, a wrong scale or mask by far more


def require_understood(model: PreTrainedModel) -> None:
    """Show that packed rows after a shared prefix get the logits of the model's own forward.

    Raises:
        ModelError: The model has layers that are not attention, does not let its attention be chosen, or is damaged.
        IntegrityError: The logits differ, or layers ignore the window that the configuration gives them.
    """
    config = model.config.get_text_config()
    layer_types = getattr(config, "layer_types", None)  # most configs have none: all layers are alike
    if unknown := sorted(set(layer_types or ()) - _KNOWN_LAYERS):
        raise ModelError(
            f"{type(model).__name__} has layers that Fettle cannot run: {', '.join(unknown)}",
            remedy="use a model whose layers are all attention, full or with a sliding window",
        )
    ids = [(4 + 7 * place) % config.vocab_size for place in range(2 * ALIGNMENT)]
    prefix, rows = ids[:ALIGNMENT], [ids[ALIGNMENT:], ids[: ALIGNMENT // 2]]
    device = model.device
    with torch.no_grad():
        plain = [
            model(input_ids=torch.tensor([[*prefix, *row]], device=device), use_cache=False).logits[0, len(prefix) :]
            for row in rows
        ]
        with own_attention(model):
            computed = prefix_key_values(model, prefix)
            packed = pack_rows(rows, prefix_length=len(prefix), num_heads=num_heads(model), device=device)
            attention = _Watched(PackedAttention(packed, computed))
            hidden_TE = run(model, packed.ids_1T, packed.positions_1T, attention)[: packed.num_tokens]
    ours_TV, plain_TV = logits_of(model, hidden_TE).float(), torch.cat(plain).float()
    if not bool(plain_TV.isfinite().all()):
        raise ModelError(
            "the model's own answers are not finite numbers: its weights are damaged",
            remedy="take an undamaged copy of the weights, or use --precision exact",
        )
    difference = float((ours_TV - plain_TV).std() / plain_TV.std())
    if not difference < _MOST_DIFFERENCE:
        raise IntegrityError(
            f"{type(model).__name__} does something Fettle does not know: its own logits differ by {difference:.0%}",
            remedy="use another model class, and report this one",
        )
    if layer_types is not None and attention.windowed != [kind == "sliding_attention" for kind in layer_types]:
        raise IntegrityError(
            f"the layers of {type(model).__name__} do not pass on their sliding window",
            remedy="use another model class",
        )


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
