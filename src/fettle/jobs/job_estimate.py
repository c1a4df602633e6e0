"""What is to be expected of a job, as its process says it and others read it."""

from __future__ import annotations

from fettle.jobs.job_folder import FileRecord, TrainingFailed, TrainingStarted


class JobEstimate(FileRecord):
    """What is to be expected of a job."""

    started: TrainingStarted
    """What the job would come to."""
    seconds: float
    """Of loading the model, reading the rows, and all steps and evaluations."""
    peak_memory_bytes: int
    """The most that its process would hold, the base model included."""
    max_tokens_at_once: int | None
    """Bound on the tokens that are run at once, as the memory allows."""
    recomputes: bool
    """Whether layers would be computed again in the backward pass, for memory is short."""
    warnings: tuple[str, ...]
    """What there is to say of the files."""

    @property
    def minutes(self) -> float:
        """The same in minutes."""
        return self.seconds / 60

    def price(self, per_hour: float) -> float:
        """In the currency of the price of an hour.

        >>> JobEstimate.model_construct(seconds=1800.0).price(1.2)
        0.6
        """
        return self.seconds / 3600 * per_hour


class EstimateOutcome(FileRecord):
    """One of the two."""

    estimate: JobEstimate | None
    failed: TrainingFailed | None
    """What the job would fail with."""
