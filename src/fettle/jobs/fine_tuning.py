"""A supervised fine-tuning job: what is asked for, what is derived from the data, and what the tuned model is called."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fettle.jobs.hyperparameters import derived_batch_size, derived_epochs
from fettle.store.ids import new_model_letters


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """As OpenAI's API has them; None: `auto`."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None

    def resolved(self, num_rows: int) -> Hyperparameters:
        """With numbers in place of `auto`, which depend on the rows of the training file.

        >>> Hyperparameters().resolved(20)
        Hyperparameters(n_epochs=5, batch_size=1, learning_rate_multiplier=1.0)
        >>> Hyperparameters(n_epochs=2).resolved(10_000)
        Hyperparameters(n_epochs=2, batch_size=20, learning_rate_multiplier=1.0)
        """
        return Hyperparameters(
            n_epochs=self.n_epochs or derived_epochs(num_rows),
            batch_size=self.batch_size or derived_batch_size(num_rows),
            learning_rate_multiplier=self.learning_rate_multiplier or 1.0,
        )

    @property
    def as_wire(self) -> dict[str, Any]:
        """For an answer of the API."""
        return {name: "auto" if value is None else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuningRequest:
    """What a supervised job was asked for, all names resolved; kept with the job as JSON."""

    base: str
    """Id of the base model."""
    continues: str | None
    """The tuned model that training goes on from; None: the base model."""
    seed: int
    suffix: str | None
    hyperparameters: Hyperparameters

    @classmethod
    def from_json(cls, value: Any) -> FineTuningRequest:
        """From what was kept."""
        return cls(**value | {"hyperparameters": Hyperparameters(**value["hyperparameters"])})

    @property
    def as_json(self) -> dict[str, Any]:
        """What is kept."""
        return asdict(self)

    def new_model_name(self, organization_id: str, *, step: int | None = None) -> str:
        """A name for what comes of it; `step` for a checkpoint."""
        suffix = re.sub(r"[^A-Za-z0-9_.-]", "-", self.suffix or "")
        organization = organization_id.removeprefix("org-")
        name = f"ft:{self.base}:{organization}:{suffix}:{new_model_letters()}"
        return name if step is None else f"{name}:ckpt-step-{step}"


def folder_of_job(jobs: Path, job_id: str) -> Path:
    """Where a job works."""
    return jobs / job_id
