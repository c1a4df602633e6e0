"""Whether an engine answers with what was trained: shown on a few prompts before any of its answers counts.

An engine that leaves an adapter out, scales it otherwise or caches wrongly still writes fluent text. So its first-token
probabilities and its greedy tokens are compared with the reference, the model's own forward with PEFT's own layers, within the
noise that the two show without the adapter.

Legend: B prompts, V vocabulary, K tokens written.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fettle.errors import IntegrityError

NUM_TOKENS = 8
"""Greedy tokens looked at for each prompt."""
_NUM_LIKELY = 20
"""Tokens whose probabilities are compared: the likeliest ones, by the reference."""
_NOISE_FACTOR = 3.0
_LEAST_BOUND = {torch.float32: 0.005, torch.float16: 0.05, torch.bfloat16: 0.6}
"""Nats. On the embedded model two right ways of computing differ by 2e-5 in fp32 and by 0.2 in bf16; weights that are rounded to
16-bit floats, with all else in fp32, change its log-probabilities by 0.01."""


def difference(ours_BV: torch.Tensor, reference_BV: torch.Tensor) -> float:
    """The largest difference of log-probabilities among the tokens that the reference finds likeliest, nats.

    Args:
        ours_BV: Logits of the first token.
        reference_BV: The same by the reference.
    """
    ours_BV, reference_BV = (logits.float().log_softmax(-1) for logits in (ours_BV, reference_BV))
    likely_BK = reference_BV.topk(min(_NUM_LIKELY, reference_BV.shape[-1])).indices
    return float((ours_BV.gather(1, likely_BK) - reference_BV.gather(1, likely_BK)).abs().max())


def bound(noise: float, dtype: torch.dtype) -> float:
    """What an engine may differ by from the reference, given by how much they differ without an adapter; nats."""
    return max(_NOISE_FACTOR * noise, _LEAST_BOUND[dtype])


def shortfall(tokens: Sequence[int], reference_KV: torch.Tensor) -> float:
    """By how much a token that was written is less likely than the likeliest one at its place, at most; nats.

    Args:
        tokens: K tokens that an engine wrote.
        reference_KV: Logits before each of them, by the reference, after the same tokens.
    """
    chosen_K = reference_KV[range(len(tokens)), list(tokens)]
    return float((reference_KV.max(-1).values - chosen_K).max())


def require_within(found: float, most: float, *, what: str) -> None:
    """Show that an engine is as close to the reference as it has to be.

    Raises:
        IntegrityError: It is not, or what it gives is not a number.
    """
    if not found <= most:
        raise IntegrityError(
            f"{what} is not answered with as it was trained: its probabilities differ from the reference by {found:.3g} nats, "
            f"at most {most:.2g} can be rounding",
            remedy="report this with the model's name; --precision exact may avoid it",
        )
