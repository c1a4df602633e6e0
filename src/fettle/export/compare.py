"""How far two models differ in what they say.

Legend: R token rows, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.export.settings import WeightType
from fettle.models.understood import own_logits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MOST_DIFFERENCE = {WeightType.F32: 1e-4, WeightType.F16: 0.01, WeightType.BF16: 0.05}
"""Of the logits' spread, between a model in fp32 and in a type that rounds each number by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Between a reference and another model, over all positions of some rows."""

    relative: float
    """Standard deviation of the logits' difference, of the spread of the reference's logits."""
    kl_nats: float
    """Mean KL(reference ‖ other) of the next token, nats."""
    same_first: float
    """Share of positions at which both find the same token most probable."""

    def describe(self) -> str:
        """In words.

        >>> Difference(relative=0.012, kl_nats=0.00031, same_first=0.985).describe()
        'logits within 1.2% of their spread, KL 0.00031 nats a token, the same most probable token at 98.5% of positions'
        """
        return (
            f"logits within {self.relative:.2g} of their spread"
            if self.relative < 1e-4
            else f"logits within {100 * self.relative:.2g}% of their spread"
        ) + (
            f", KL {self.kl_nats:.2g} nats a token, the same most probable token at {100 * self.same_first:.1f}% of positions"
        )


def row_logits(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, ...]:
    """The logits of each row [T, V], fp32, by the model's own forward, on the CPU."""
    import torch

    with torch.no_grad():
        return tuple(own_logits(model, row).cpu() for row in rows)


def difference(reference: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> Difference:
    """How far `other` is from `reference`, R tensors [T, V] each; infinitely far where a number is not finite."""
    import torch

    wanted_NV, found_NV = torch.cat([*reference]), torch.cat([*other])
    if wanted_NV.shape != found_NV.shape or not bool(found_NV.isfinite().all()):
        return Difference(relative=float("inf"), kl_nats=float("inf"), same_first=0.0)
    wanted_log, found_log = wanted_NV.log_softmax(-1), found_NV.log_softmax(-1)
    return Difference(
        relative=float((found_NV - wanted_NV).std() / wanted_NV.std()),
        kl_nats=max(float((wanted_log.exp() * (wanted_log - found_log)).sum(-1).mean()), 0.0),
        same_first=float((wanted_NV.argmax(-1) == found_NV.argmax(-1)).double().mean()),
    )
