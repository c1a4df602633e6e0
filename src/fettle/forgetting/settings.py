"""What a study is told about forgetting."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fettle.forgetting.budget import ForgettingBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgettingSettings:
    """How what was forgotten is looked for."""

    budget: ForgettingBudget = field(default_factory=ForgettingBudget)
    """On the general suite, and on the user's own examples likewise."""
    must_still_work: Path | None = None
    """File or folder of the user's own examples of what must still work; None: there are none."""

    sweeps_strength: bool = True
    """An adapter is tried at several strengths on validation, and used at the best that keeps the budget."""

    def __post_init__(self) -> None:
        """Take a text for a path."""
        if self.must_still_work is not None:
            object.__setattr__(self, "must_still_work", Path(self.must_still_work))
