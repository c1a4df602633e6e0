"""Logits for chosen positions only: the head is the most expensive layer of a small model, and most positions need none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK_ROWS = 256
"""Positions whose logits exist at once: 256 x 49,152 fp32 are 50 MB."""


def logits_of(model: PreTrainedModel, hidden_NE: torch.Tensor) -> torch.Tensor:
    """Logits of some hidden states [N, E] -> [N, V], in the model's dtype.

    Applies what the known model classes do after their head: soft-capping (Gemma 2, Gemma 3) and scaling (Granite, Cohere).
    `fettle.models.understood` shows that this is all the model at hand does.
    """
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has a head"
    logits_NV = head(hidden_NE)
    config = model.config.get_text_config()
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # fields of some configs only
        logits_NV = cap * torch.tanh(logits_NV / cap)
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits_NV = logits_NV / divisor
    if (factor := getattr(config, "logit_scale", None)) is not None:
        logits_NV = logits_NV * factor
    return logits_NV


def summed_cross_entropy(
    model: PreTrainedModel, hidden_NE: torch.Tensor, targets_N: torch.Tensor, counts_N: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum of the cross-entropies of some positions, nats, fp32 scalar; the logits of few positions exist at once.

    The head must be frozen: the gradient reaches the hidden states alone. It is formed with the loss, chunk by chunk.

    Args:
        model: Gives the head.
        hidden_NE: Last hidden states.
        targets_N: The token that each of them should predict.
        counts_N: How often each counts, fp32; None: once.
    """
    return _SummedCrossEntropy.apply(hidden_NE, targets_N, counts_N, model)  # pyright: ignore[reportReturnType]


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: torch.Tensor,
        targets_N: torch.Tensor,
        counts_N: torch.Tensor | None,
        model: PreTrainedModel,
    ) -> torch.Tensor:
        total, gradients = hidden_NE.new_zeros((), dtype=torch.float32), []
        wants_gradient = ctx.needs_input_grad[0]
        counts_N1 = torch.ones_like(targets_N, dtype=torch.float32)[:, None] if counts_N is None else counts_N[:, None]
        chunks = (tensor.split(CHUNK_ROWS) for tensor in (hidden_NE, targets_N[:, None], counts_N1))
        for hidden, targets, counts in zip(*chunks, strict=True):
            with torch.set_grad_enabled(wants_gradient):
                leaf = hidden.detach().requires_grad_(wants_gradient)
                logits_NV = logits_of(model, leaf)
            log_probs_NV = logits_NV.detach().log_softmax(-1, dtype=torch.float32)
            total -= (counts * log_probs_NV.gather(1, targets)).sum()
            if wants_gradient:  # of the loss with respect to the logits: the probabilities, less 1 at the target
                grad_NV = log_probs_NV.exp_().scatter_add_(1, targets, -torch.ones_like(counts))
                if counts_N is not None:
                    grad_NV.mul_(counts)
                gradients += torch.autograd.grad(logits_NV, leaf, grad_NV.to(logits_NV.dtype))
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.cat(ctx.saved_tensors) * upstream, None, None, None
