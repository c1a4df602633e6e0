"""What a training process leaves in its folder becomes events, checkpoints, a results file and models in the store, each once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import Connection

from fettle.files import replaced_folder, write_atomically
from fettle.jobs.fine_tuning import FineTuningRequest, folder_of_job
from fettle.jobs.held import HeldJob
from fettle.jobs.job_folder import JobFolder, TrainingFinished, TrainingStarted
from fettle.jobs.results_file import step_table, written_file
from fettle.jobs.step_metrics import StepMetrics
from fettle.jobs.told_steps import ToldSteps
from fettle.store.database import Store, now
from fettle.store.files import StoredFile, add_file
from fettle.store.ids import new_id
from fettle.store.job_log import (
    JobCheckpoint,
    JobEvent,
    Level,
    add_checkpoint,
    add_events,
    all_checkpoints,
    remove_checkpoint,
    was_told,
)
from fettle.store.jobs import Job, JobStatus, change_status, read_job, require_held
from fettle.store.models import TunedModel, add_tuned_model, folder_of, forget_tuned_model

_KEPT_CHECKPOINTS = 3


class Publication:
    """Tells the store what a job's training has come to.

    Args:
        store: The store.
        job: The job.
        held: The claim to it: nothing is told once it is lost.
        organization_id: Part of the models' names.
    """

    def __init__(self, store: Store, job: Job, held: HeldJob, *, organization_id: str) -> None:
        self._store, self._job, self._held, self._organization_id = store, job, held, organization_id
        self._request = FineTuningRequest.from_json(job.request)
        self._folder = JobFolder(folder_of_job(store.jobs, job.id))
        self._told = ToldSteps(store, held, self._folder.events)

    def tell(self, *, is_over: bool = False) -> None:
        """Tell what is new: each epoch's steps, and its model with the last of them.

        Raises:
            LeaseLostError: The job is another worker's, or does not run any more.
            DatabaseAwayError: The database does not answer. What was not told is told by the next call.
        """
        new = self._told.new_steps(is_over=is_over)
        notices = self._notices() if new else []
        for steps in _up_to_epochs(new):
            model = self._copied_epoch(steps[-1])
            dropped: list[TunedModel] = []

            def keep(connection: Connection, last: StepMetrics = steps[-1], model: TunedModel | None = model) -> None:
                if model is not None:
                    dropped.extend(self._add_checkpoint(connection, last, model))  # noqa: B023 (called within this turn)

            self._told.tell(steps, notices, and_then=keep)
            self._remove_weights(dropped)

    def succeed(self, result: TrainingFinished) -> None:
        """Have the tuned model and the results file, and end the job.

        Raises:
            LeaseLostError: The job is another worker's, or does not run any more.
        """
        steps = self._told.steps
        place = self._placed(self._folder.path / result.adapter, "final")
        results = self._results(steps)
        model = self._model(self._names()["model"], place, step=None)
        with self._store.writing() as connection:
            require_held(connection, self._held.lease, JobStatus.RUNNING)
            add_file(connection, results)
            dropped = self._add_checkpoint(connection, steps[-1], model)
            add_events(
                connection,
                self._job.id,
                JobEvent(key="model", message=f"New fine-tuned model created: {model.id}"),
                JobEvent(key="succeeded", message="The job has successfully completed"),
            )
            change_status(
                connection,
                self._job.id,
                from_=[JobStatus.RUNNING],
                to=JobStatus.SUCCEEDED,
                finished_at=now(),
                estimated_finish=None,
                tuned_model=model.id,
                num_trained_tokens=result.num_trained_tokens,
                results_files=[results.id],
            )
        self._remove_weights(dropped)

    def keep_partial_results(self) -> None:
        """Have the results file of a job that failed or was cancelled, as far as it came; nothing where it took no step."""
        with self._store.reading() as connection:
            job = read_job(connection, self._job.id)
        if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED) or job.results_files:
            return
        if not (steps := self._told.steps):
            return
        results = self._results(steps)
        with self._store.writing() as connection:
            add_file(connection, results)
            change_status(connection, job.id, from_=[job.status], to=job.status, results_files=[results.id])

    def _results(self, steps: Sequence[StepMetrics]) -> StoredFile:
        return written_file(
            self._store,
            step_table(steps),
            file_id=self._names()["results_file"],
            project_id=self._job.project_id,
            filename=f"{self._job.id}-results.csv",
        )

    def _placed(self, adapter: Path, name: str) -> str:
        """Copy an adapter, with prompts to check it by, to the models of the store; its place there.

        No two claims use the same place: a worker that was thought dead, and goes on, touches nothing that another one has made.
        """
        place = f"{self._job.id}/{name}-{self._held.lease.token}"
        with replaced_folder(self._store.models / place) as folder:
            shutil.copytree(adapter, folder, dirs_exist_ok=True)
            shutil.copy(self._folder.check_prompts, folder)
        return place

    def _started(self) -> TrainingStarted:
        started = self._folder.read_started()
        assert started is not None, "the process has trained"
        return started

    def _notices(self) -> list[JobEvent]:
        """What the process had to do to the rows."""
        started = self._folder.read_started()
        if started is None:
            return []
        parts = {"training": started.train, "validation": started.valid}
        notices = []
        for name, counts in parts.items():
            if counts is None:
                continue
            texts = {
                "truncated": (
                    counts.num_truncated,
                    f"are longer than the {started.max_tokens} tokens of the model's context, and were cut at their end",
                ),
                "skipped": (counts.num_skipped, "were skipped: nothing that could be learned is left of them"),
                "partly-trained": (
                    counts.num_partly_trained,
                    "hold an answer that is not learned, or not as a whole: the model's chat template writes it otherwise than the "
                    "model would, or leaves out the text beside a function call",
                ),
            }
            notices += [
                JobEvent(key=f"{name}-{key}", level=Level.WARN, message=f"{count} {name} example(s) {text}")
                for key, (count, text) in texts.items()
                if count
            ]
        return notices

    def _copied_epoch(self, last: StepMetrics) -> TunedModel | None:
        """The model of a step that ends an epoch, its weights in their place already; None: it has none, or was told of before."""
        if last.epoch_folder is None or last.step == last.total_steps:
            return None
        source = self._folder.training / last.epoch_folder
        with self._store.reading() as connection:
            is_known = was_told(connection, self._job.id, _checkpoint_key(last.step))
        if is_known or not source.is_dir():  # many later epochs have taken its place
            return None
        place = self._placed(source, f"step-{last.step}")
        return self._model(self._request.new_model_name(self._organization_id, step=last.step), place, step=last.step)

    def _add_checkpoint(self, connection: Connection, last: StepMetrics, model: TunedModel) -> list[TunedModel]:
        """Have a model and the checkpoint that names it; the models of those that are listed no longer."""
        checkpoint = JobCheckpoint(job_id=self._job.id, step=last.step, model=model.id, metrics=last.metrics)
        add_tuned_model(connection, model)
        add_checkpoint(connection, checkpoint)
        message = f"Checkpoint created at step {last.step} with Snapshot ID: {model.id}"
        add_events(connection, self._job.id, JobEvent(key=_checkpoint_key(last.step), message=message))
        old = all_checkpoints(connection, self._job.id)[:-_KEPT_CHECKPOINTS]
        for each in old:
            remove_checkpoint(connection, each)
        forgotten = [forget_tuned_model(connection, self._job.project_id, each.model) for each in old]
        return [each for each in forgotten if each is not None]  # the user may have deleted it

    def _remove_weights(self, models: Sequence[TunedModel]) -> None:
        for model in models:
            shutil.rmtree(folder_of(self._store, model), ignore_errors=True)

    def _names(self) -> dict[str, str]:
        """Names of what the job leaves, chosen once: a worker that goes on after another uses the same."""
        file = self._folder.path / "names.json"
        if not file.exists():
            names = {
                "model": self._request.new_model_name(self._organization_id),
                "results_file": new_id("file-"),
            }
            write_atomically(file, json.dumps(names))
        return json.loads(file.read_text())

    def _model(self, name: str, place: str, *, step: int | None) -> TunedModel:
        started = self._started()
        return TunedModel(
            id=name,
            project_id=self._job.project_id,
            base=self._request.base,
            base_sha256=started.base_sha256,
            template_sha256=started.template_sha256,
            folder=place,
            is_adapter=True,
            job_id=self._job.id,
            step=step,
            created_at=now(),
        )


def _checkpoint_key(step: int) -> str:
    return f"checkpoint-{step}"


def _up_to_epochs(steps: Sequence[StepMetrics]) -> Iterator[list[StepMetrics]]:
    """The steps in turn, cut after each that ends an epoch."""
    part: list[StepMetrics] = []
    for step in steps:
        part.append(step)
        if step.epoch_folder is not None:
            yield part
            part = []
    if part:
        yield part
