"""A training's steps become events of its job: each once, whoever tells them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Connection

from fettle.jobs.held import HeldJob
from fettle.jobs.step_metrics import StepMetrics, merged_steps, thinned
from fettle.store.database import Store, now
from fettle.store.job_log import JobEvent, add_events
from fettle.store.jobs import JobStatus, require_held, set_values
from fettle.training.events import read_events

_MOST_STEP_EVENTS = 5000
_SECONDS_BETWEEN_ESTIMATES = 5.0


class ToldSteps:
    """Follows the event stream of a training, and tells the store of its steps.

    Args:
        store: The store.
        held: The claim to the job: nothing is told once it is lost.
        stream: The file that the training writes.
    """

    def __init__(self, store: Store, held: HeldJob, stream: Path) -> None:
        self._store, self._held, self._stream = store, held, stream
        self._num_told = self._num_found = 0
        self._seen: tuple[int, int] | None = None
        self._estimates_after = 0.0

    @property
    def steps(self) -> list[StepMetrics]:
        """All steps of the stream."""
        return merged_steps(read_events(self._stream).events)

    def new_steps(self, *, is_over: bool = False) -> list[StepMetrics]:
        """The steps that nobody was told of by this one.

        The newest step waits until it is known what was measured after it, unless the training is over.
        """
        if not self._has_changed() and not is_over and self._num_told >= self._num_found:
            return []
        steps = self.steps if is_over else self.steps[:-1]
        self._num_found = len(steps)
        return steps[self._num_told :]

    def tell(
        self,
        steps: Sequence[StepMetrics],
        notices: Sequence[JobEvent] = (),
        *,
        and_then: Callable[[Connection], None] = lambda _connection: None,
    ) -> None:
        """Tell of the next few `new_steps`: at once, or not at all.

        Args:
            steps: Which.
            notices: Told before.
            and_then: Belongs to the last of these steps, and happens with it or not at all.

        Raises:
            LeaseLostError: The job is another worker's, or does not run any more.
        """
        if not steps:
            return
        shown = thinned(steps, most=_MOST_STEP_EVENTS)
        events = [JobEvent(key=f"step-{step.step}", message=step.message, data=_data(step)) for step in shown]
        with self._store.writing() as connection:
            require_held(connection, self._held.lease, JobStatus.RUNNING)
            if add_events(connection, self._held.lease.job_id, *notices, *events):
                set_values(connection, self._held.lease, num_crashes=0)
            self._estimate(connection, steps)
            and_then(connection)
        self._num_told += len(steps)

    def _has_changed(self) -> bool:
        """Whether something was written since this was last asked."""
        try:
            found = self._stream.stat()
        except FileNotFoundError:
            return False
        seen, self._seen = self._seen, (found.st_ino, found.st_size)
        return seen != self._seen

    def _estimate(self, connection: Connection, steps: Sequence[StepMetrics]) -> None:
        if time.monotonic() < self._estimates_after:
            return
        self._estimates_after = time.monotonic() + _SECONDS_BETWEEN_ESTIMATES
        seconds = sum(step.seconds for step in steps) / len(steps) * (steps[-1].total_steps - steps[-1].step)
        set_values(connection, self._held.lease, estimated_finish=now() + round(seconds))


def _data(step: StepMetrics) -> dict[str, object]:
    return {"total_steps": step.total_steps, **step.metrics}
