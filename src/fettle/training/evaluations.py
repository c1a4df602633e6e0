"""When a run measures its validation loss, and on which rows: pure functions of the step, so that a resumed run needs no memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fettle.records import TokenisedExample
from fettle.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluations:
    """The evaluations of one run."""

    valid_rows: tuple[TokenisedExample, ...]
    """All of them; without any there is no evaluation."""
    steps_per_epoch: int
    settings: TrainingSettings

    def is_due(self, step: int) -> bool:
        """Whether there is one after so many steps: before the first one if that is wanted, then evenly over each epoch."""
        if not self.valid_rows or (step == 0 and not self.settings.evaluates_untrained):
            return False
        num_due, num_due_before = (
            at * self.settings.evals_per_epoch // self.steps_per_epoch for at in (step, step - 1)
        )
        return num_due > num_due_before

    def is_full(self, step: int) -> bool:
        """Whether all rows take part in it, as at the end of each epoch."""
        return len(self._quick_rows) == len(self.valid_rows) or step % self.steps_per_epoch == 0

    def rows(self, step: int) -> tuple[TokenisedExample, ...]:
        """Its rows; those within epochs are always the same ones, so that their losses can be compared."""
        return self.valid_rows if self.is_full(step) else self._quick_rows

    @property
    def _quick_rows(self) -> tuple[TokenisedExample, ...]:
        wanted = self.settings.quick_valid_rows
        if wanted is None or wanted >= len(self.valid_rows):
            return self.valid_rows
        order = np.random.default_rng(self.settings.seed).permutation(len(self.valid_rows))
        return tuple(self.valid_rows[index] for index in sorted(order[:wanted]))
