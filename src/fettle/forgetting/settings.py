"""What a study is told about forgetting."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fettle.errors import ConfigError, require_range
from fettle.forgetting.budget import ForgettingBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessSettings:
    """Tasks of lm-evaluation-harness that both models are asked beside."""

    tasks: tuple[str, ...]
    """Of the harness's own, or of `path`; at least one."""
    path: Path | None = None
    """Folder of the user's own tasks, YAML files as the harness reads them; None: there are none."""
    limit: int | None = None
    """So many questions of each task at most; None: all."""

    def __post_init__(self) -> None:
        """Refuse what asks for nothing.

        Raises:
            ConfigError: There is no task, one is named twice, or the limit is below 2.
        """
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ConfigError(
                "expected some tasks, each once" if self.tasks else "no task is named",
                where="--harness-task",
                remedy="name tasks of lm-evaluation-harness, such as --harness-task arc_easy",
            )
        if self.path is not None:
            object.__setattr__(self, "path", Path(self.path))
        if self.limit is not None:
            require_range("harness limit", self.limit, low=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgettingSettings:
    """How what was forgotten is looked for."""

    budget: ForgettingBudget = field(default_factory=ForgettingBudget)
    """On the general suite, and on the user's own examples likewise."""
    must_still_work: Path | None = None
    """File or folder of the user's own examples of what must still work; None: there are none."""

    harness: HarnessSettings | None = None
    """Tasks of lm-evaluation-harness, shown and not held against the budget; None: none."""
    sweeps_strength: bool = True
    """An adapter is tried at several strengths on validation, and used at the weakest that does as well in the budget."""

    def __post_init__(self) -> None:
        """Take a text for a path."""
        if self.must_still_work is not None:
            object.__setattr__(self, "must_still_work", Path(self.must_still_work))
