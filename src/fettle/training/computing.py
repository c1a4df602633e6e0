"""What one process computes of each step and each evaluation, by the way that fits the model and the team."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.models.load import LoadedModel
from fettle.records import TokenisedExample
from fettle.training.shares import shares
from fettle.training.team import Team

if TYPE_CHECKING:
    from fettle.training.sft import LossSum

_EVALUATED_ROWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Computing:
    """Computes this process's share of a run."""

    loaded: LoadedModel
    """With what is trained in place."""
    team: Team
    max_tokens: int
    """Bound on the tokens that are run at once."""
    recomputes: bool
    """Layers are computed again in the backward pass."""

    def add_gradients(self, batch: Sequence[TokenisedExample]) -> LossSum:
        """Add the gradient of this process's share of a batch; the share's summed loss."""
        from fettle.training.accumulate import add_gradients
        from fettle.training.equal_calls import add_gradients_in_equal_calls
        from fettle.training.sft import LossSum

        mine = self._share_of(batch)
        model, plainly, recomputes = self.loaded.model, self._plainly, self.recomputes
        if self.loaded.division is not None:
            return add_gradients_in_equal_calls(
                model, mine, max_tokens=self.max_tokens, most=self.team.most, plainly=plainly, recomputes=recomputes
            )
        if not mine:
            return LossSum(0.0, 0, 0.0)
        return add_gradients(model, mine, max_tokens=self.max_tokens, plainly=plainly, recomputes=recomputes)

    def summed_loss(self, rows: Sequence[TokenisedExample]) -> LossSum:
        """The summed loss of this process's share of some validation rows, without gradients."""
        from fettle.training.accumulate import evaluated_batches, summed_loss
        from fettle.training.equal_calls import summed_loss_in_equal_calls

        model, team, plainly = self.loaded.model, self.team, self._plainly
        if self.loaded.division is not None:
            mine = evaluated_batches(rows, batch_size=_EVALUATED_ROWS)[team.rank :: team.size]
            return summed_loss_in_equal_calls(model, mine, max_tokens=self.max_tokens, most=team.most, plainly=plainly)
        return summed_loss(
            model,
            rows,
            batch_size=_EVALUATED_ROWS,
            max_tokens=self.max_tokens,
            plainly=plainly,
            share=team.rank,
            num_shares=team.size,
        )

    @property
    def _plainly(self) -> bool:
        return self.loaded.plain_reason is not None

    def _share_of(self, batch: Sequence[TokenisedExample]) -> list[TokenisedExample]:
        from fettle.training.sft import input_tokens

        if self.team.size == 1:
            return list(batch)
        mine = shares([input_tokens(example) for example in batch], self.team.size)[self.team.rank]
        return [batch[index] for index in mine]
