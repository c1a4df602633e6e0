"""The numbers of a run that change: what is trained, the optimiser's moments, the best weights so far; to a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.nn import Parameter

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class TrainedState:
    """Masters with their optimiser, and a copy of the best of them where a run keeps those.

    Args:
        masters: What is trained, fp32.
        learning_rate: Of the first step; each sets its own.
        keeps_best: Whether earlier weights may be wanted again at the end; else no memory is taken for them.
    """

    def __init__(self, masters: Mapping[str, Parameter], *, learning_rate: float, keeps_best: bool) -> None:
        self.masters = masters
        self.optimiser = torch.optim.AdamW(masters.values(), lr=learning_rate, weight_decay=0.0, fused=True)
        self._best = self._copy() if keeps_best else {}

    def note_best(self) -> None:
        """Take the weights as they are for the best."""
        self._best = self._copy()

    def restore_best(self) -> None:
        """Go back to the best weights; where a run does not keep them, those of the last step stay."""
        with torch.no_grad():
            for name, best in self._best.items():
                self.masters[name].copy_(best)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it by name, for a checkpoint."""
        tensors = {f"now.{name}": master.detach() for name, master in self.masters.items()}
        tensors |= {f"best.{name}": best for name, best in self._best.items()}
        for name, master in self.masters.items():
            for key, value in self.optimiser.state.get(master, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors

    def is_in(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Whether a checkpoint holds these weights; those of older versions name others."""
        return all(f"now.{name}" in tensors for name in self.masters)

    def take_up(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Have everything as a checkpoint has it."""
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(tensors[f"now.{name}"])
                if name in self._best:
                    self._best[name] = tensors[f"best.{name}"].to(master.device)
                moments = {
                    key: tensors[f"adam.{key}.{name}"].to(master.device)
                    for key in _MOMENTS
                    if f"adam.{key}.{name}" in tensors
                }
                if moments:
                    self.optimiser.state[master] = moments

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: master.detach().clone() for name, master in self.masters.items()}
