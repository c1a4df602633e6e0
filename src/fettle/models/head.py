"""Logits for chosen positions only: the head is the most expensive layer of a small model, and most positions need none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle.errors import IntegrityError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def logits_of(model: PreTrainedModel, hidden_NH: torch.Tensor) -> torch.Tensor:
    """Logits of some hidden states [N, H] -> [N, V], in the model's dtype.

    Applies what the known model classes do after their head: soft-capping (Gemma 2, Gemma 3) and scaling (Granite, Cohere).
    `require_head_understood` shows that this is all the model at hand does.
    """
    import torch

    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has a head"
    logits_NV = head(hidden_NH)
    config = model.config.get_text_config()
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # fields of some configs only
        logits_NV = cap * torch.tanh(logits_NV / cap)
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits_NV = logits_NV / divisor
    if (factor := getattr(config, "logit_scale", None)) is not None:
        logits_NV = logits_NV * factor
    return logits_NV


def require_head_understood(model: PreTrainedModel) -> None:
    """Show that `logits_of` gives what the model's own forward gives, once, on a few tokens.

    Raises:
        IntegrityError: It does not; training on wrong logits would go unnoticed.
    """
    import torch

    with torch.no_grad():
        ids_1T = torch.arange(4, 12, device=model.device)[None] % model.config.get_text_config().vocab_size
        own_TV = model(input_ids=ids_1T, use_cache=False).logits[0].float()
        ours_TV = logits_of(model, model.base_model(input_ids=ids_1T, use_cache=False).last_hidden_state[0]).float()
    scale = float(own_TV.abs().max()) or 1.0
    if float((own_TV - ours_TV).abs().max()) > 0.02 * scale:
        raise IntegrityError(
            f"the head of {type(model).__name__} does something Fettle does not know, so its logits would be wrong",
            remedy="use another model class, and report this one",
        )
