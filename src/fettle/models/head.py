"""Logits for chosen positions only: the head is the most expensive layer of a small model, and most positions need none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fettle.models.head_loss import HeadLoss, PositionSums, chosen_head_loss, liger_cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK_ROWS = 256
"""Positions whose logits exist at once: 256 x 49,152 fp32 are 50 MB."""
_GPU_CHUNK_ROWS = 1024
"""The same on a GPU, which has more to do at a time than it can then be asked for: 1,024 x 128,256 fp32 are 525 MB."""


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
) -> PositionSums:
    """Cross-entropies of some positions, added up, and how many are predicted right; the logits of few positions exist at once.

    The gradients, of the hidden states and of the head's weights where those are trained, are formed with the loss, chunk by chunk.

    Args:
        model: Gives the head.
        hidden_NE: Last hidden states.
        targets_N: The token that each of them should predict.
        counts_N: How often each counts, fp32; None: once.
    """
    if chosen_head_loss(model, hidden_NE, counts_N) is HeadLoss.LIGER:
        return liger_cross_entropy(model, hidden_NE, targets_N)
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has a head"
    trained = [weight for weight in head.parameters() if weight.requires_grad and torch.is_grad_enabled()]
    return PositionSums(*_SummedCrossEntropy.apply(hidden_NE, targets_N, counts_N, model, *trained))


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: torch.Tensor,
        targets_N: torch.Tensor,
        counts_N: torch.Tensor | None,
        model: PreTrainedModel,
        *trained: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        total, num_right = hidden_NE.new_zeros(2, dtype=torch.float32)
        of_hidden = []
        wants_gradient = any(ctx.needs_input_grad)
        of_trained = [torch.zeros_like(weight, dtype=torch.float32) for weight in trained] if wants_gradient else []
        counts_N1 = torch.ones_like(targets_N, dtype=torch.float32)[:, None] if counts_N is None else counts_N[:, None]
        num_rows = CHUNK_ROWS if hidden_NE.device.type == "cpu" else _GPU_CHUNK_ROWS
        chunks = (tensor.split(num_rows) for tensor in (hidden_NE, targets_N[:, None], counts_N1))
        for hidden, targets, counts in zip(*chunks, strict=True):
            with torch.set_grad_enabled(wants_gradient):
                leaf = hidden.detach().requires_grad_(wants_gradient)
                logits_NV = logits_of(model, leaf)
            log_probs_NV = logits_NV.detach().log_softmax(-1, dtype=torch.float32)
            of_targets = log_probs_NV.gather(1, targets)
            total -= (counts * of_targets).sum()
            # The largest value is found ten times as fast as its place; equally likely tokens are all the likeliest.
            num_right += (counts * (of_targets == log_probs_NV.amax(1, keepdim=True))).sum()
            if wants_gradient:  # of the loss with respect to the logits: the probabilities, less 1 at the target
                grad_NV = log_probs_NV.exp_().scatter_add_(1, targets, -torch.ones_like(counts))
                if counts_N is not None:
                    grad_NV.mul_(counts)
                found = torch.autograd.grad(logits_NV, [leaf, *trained], grad_NV.to(logits_NV.dtype))
                of_hidden.append(found[0])
                for gathered, gradient in zip(of_trained, found[1:], strict=True):
                    gathered.add_(gradient)
        ctx.num_chunks = len(of_hidden)
        ctx.save_for_backward(*of_hidden, *(g.to(weight.dtype) for g, weight in zip(of_trained, trained, strict=False)))
        ctx.mark_non_differentiable(num_right)
        return total, num_right

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor, _of_num_right: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        of_hidden, of_trained = ctx.saved_tensors[: ctx.num_chunks], ctx.saved_tensors[ctx.num_chunks :]
        return torch.cat(of_hidden) * upstream, None, None, None, *(gradient * upstream for gradient in of_trained)
