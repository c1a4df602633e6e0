"""What a training process leaves in its folder becomes events, checkpoints, a results file and models in the store, each once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fettle.files import replaced_folder, write_atomically
from fettle.jobs.fine_tuning import FineTuningRequest, folder_of_job
from fettle.jobs.held import HeldJob
from fettle.jobs.job_folder import JobFolder, TrainingFinished, TrainingStarted
from fettle.jobs.results_file import step_table, written_file
from fettle.jobs.step_metrics import StepMetrics
from fettle.jobs.told_steps import ToldSteps
from fettle.store.database import Store, now
from fettle.store.files import add_file
from fettle.store.ids import new_id
from fettle.store.job_log import (
    JobCheckpoint,
    JobEvent,
    Level,
    add_checkpoint,
    add_events,
    all_checkpoints,
    remove_checkpoint,
)
from fettle.store.jobs import Job, JobStatus, change_status, require_held
from fettle.store.models import NoSuchModelError, TunedModel, add_tuned_model, remove_tuned_model

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
        """Tell what is new.

        Raises:
            LeaseLostError: The job is another worker's, or does not run any more.
        """
        for step in self._told.tell(self._notices(), is_over=is_over):
            if step.epoch_folder is not None and step.step < step.total_steps:
                self._keep_checkpoint(step)

    def succeed(self, result: TrainingFinished) -> None:
        """Have the tuned model and the results file, and end the job.

        Raises:
            LeaseLostError: The job is another worker's, or does not run any more.
        """
        steps, names = self._told.steps, self._names()
        place = self._placed(self._folder.path / result.adapter, "final")
        results = written_file(
            self._store,
            step_table(steps),
            file_id=names["results_file"],
            project_id=self._job.project_id,
            filename=f"{self._job.id}-results.csv",
        )
        model = self._model(names["model"], place, step=None)
        checkpoint = JobCheckpoint(
            job_id=self._job.id, step=result.started.num_steps, model=model.id, metrics=steps[-1].metrics
        )
        with self._store.writing() as connection:
            require_held(connection, self._held.lease, JobStatus.RUNNING)
            add_tuned_model(connection, model)
            add_file(connection, results)
            add_checkpoint(connection, checkpoint)
            add_events(
                connection,
                self._job.id,
                _checkpoint_event(checkpoint),
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
        self._drop_old_checkpoints()

    def _placed(self, adapter: Path, name: str) -> str:
        """Copy an adapter, with prompts to check it by, to the models of the store; its place there."""
        place = f"{self._job.id}/{name}"
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
                    "are learned from their last answer alone: the model's chat template rewrites earlier turns",
                ),
            }
            notices += [
                JobEvent(key=f"{name}-{key}", level=Level.WARN, message=f"{count} {name} example(s) {text}")
                for key, (count, text) in texts.items()
                if count
            ]
        return notices

    def _keep_checkpoint(self, step: StepMetrics) -> None:
        """Have the model of an epoch's end."""
        assert step.epoch_folder is not None, "it ends an epoch"
        source = self._folder.training / step.epoch_folder
        with self._store.reading() as connection:
            known = {checkpoint.step for checkpoint in all_checkpoints(connection, self._job.id)}
        if step.step in known or not source.is_dir():  # later epochs have taken its place
            return
        place = self._placed(source, f"step-{step.step}")
        name = self._request.new_model_name(self._organization_id, step=step.step)
        checkpoint = JobCheckpoint(job_id=self._job.id, step=step.step, model=name, metrics=step.metrics)
        with self._store.writing() as connection:
            require_held(connection, self._held.lease, JobStatus.RUNNING)
            add_tuned_model(connection, self._model(name, place, step=step.step))
            add_checkpoint(connection, checkpoint)
            add_events(connection, self._job.id, _checkpoint_event(checkpoint))
        self._drop_old_checkpoints()

    def _drop_old_checkpoints(self) -> None:
        with self._store.reading() as connection:
            old = all_checkpoints(connection, self._job.id)[:-_KEPT_CHECKPOINTS]
        for checkpoint in old:
            with self._store.writing() as connection:
                remove_checkpoint(connection, checkpoint)
            try:
                remove_tuned_model(self._store, self._job.project_id, checkpoint.model)
            except NoSuchModelError:
                continue  # the user has deleted it

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


def _checkpoint_event(checkpoint: JobCheckpoint) -> JobEvent:
    message = f"Checkpoint created at step {checkpoint.step} with Snapshot ID: {checkpoint.model}"
    return JobEvent(key=f"checkpoint-{checkpoint.step}", message=message)
