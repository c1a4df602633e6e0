"""A study as a job of the store: `fettle study` works on it under a lease, as a worker does on others.

So what a study trains is seen through the API while it is trained, and its model can be asked as soon as it is there. Its data and
reports are files of the project `default`. The study itself lives in its own folder (`fettle.study.workspace`) and needs none of
this to go on.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fettle.answering.check_prompts import write_check_prompts
from fettle.contenders.prompt import PromptStyle
from fettle.contenders.retrieval import RetrievedPassages
from fettle.errors import FettleError
from fettle.examples.write import chat_lines
from fettle.files import copy_folder, sha256_of_json
from fettle.jobs.fine_tuning import FineTuningRequest, Hyperparameters
from fettle.jobs.held import HeldJob
from fettle.jobs.results_file import step_table, written_file
from fettle.jobs.rows import NUM_CHECK_PROMPTS
from fettle.jobs.told_steps import ToldSteps
from fettle.models.precision import BaseWeights
from fettle.progress import Listener, Stage
from fettle.records import Example
from fettle.retrieval.question import system_part_of
from fettle.store.database import Store, now
from fettle.store.files import FINE_TUNE, StoredFile, add_file
from fettle.store.ids import new_id
from fettle.store.job_log import JobEvent, Level, add_events
from fettle.store.jobs import (
    Job,
    JobKind,
    JobStatus,
    LeaseLostError,
    add_job,
    change_status,
    claim_this,
    list_jobs,
    read_job,
    require_held,
)
from fettle.store.keys import ensure_project
from fettle.store.model_indexes import AttachedIndex, attach_index
from fettle.store.models import TunedModel, add_tuned_model, list_base_models, put_base_model
from fettle.store.pages import PageRequest

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from fettle.study.planning import StudyPlan
    from fettle.study.run import StudyResult

_KEY = "fettle_study"
_UNFINISHED = (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED)
_MOST_SUFFIX = 40
_ORGANIZATION_ID = "org-fettle"


class StudyStoppedError(FettleError):
    """Somebody has paused or cancelled the study through the API."""


class StudyJob:
    """Keeps a study in a store, and passes on what is said of its progress.

    Args:
        store: The store.
        plan: The study.
        listener: Is told of the progress.
        lease_seconds: How long the claim holds unless it is renewed.
    """

    def __init__(self, store: Store, plan: StudyPlan, listener: Listener, *, lease_seconds: float) -> None:
        self._store, self._plan, self._listener, self._lease_seconds = store, plan, listener, lease_seconds
        self._request = _request_of(plan)
        self._held: HeldJob | None = None
        self._told: ToldSteps | None = None

    @contextmanager
    def while_running(self) -> Iterator[None]:
        """The study's job is ours; at its end it is finished, has failed, or waits to be gone on with."""
        job = self._job()
        if job.status is JobStatus.SUCCEEDED:  # the same command again: everything is there
            yield
            return
        # The lock on the study's folder is ours, so whoever holds an older claim is dead.
        with self._store.writing() as connection:
            owner = f"{socket.gethostname()}/{os.getpid()}/study"
            lease = claim_this(connection, job.id, owner=owner, seconds=self._lease_seconds)
            assert lease is not None, "nobody else may work in the study's folder"
            first = {} if job.started_at else {"started_at": now()}
            change_status(connection, job.id, from_=_UNFINISHED, to=JobStatus.RUNNING, **first)
            add_events(connection, job.id, JobEvent(key="started", message="Fine-tuning job started"))
        with HeldJob(self._store, lease, JobStatus.RUNNING, seconds=self._lease_seconds) as held:
            self._held = held
            self._told = ToldSteps(self._store, held, self._plan.folder / "training" / "events.jsonl")
            try:
                yield
            except BaseException as error:
                self._leave(held, error)
                raise
            finally:
                self._held = None

    def keep(self, result: StudyResult) -> None:
        """Have the model, the table of steps and the reports, and end the job."""
        if self._held is None or self._told is None:
            return
        self._told.tell(self._told.new_steps(is_over=True))
        held, job_id, project_id = self._held, self._held.lease.job_id, self._project_id()
        model = self._tuned_model(result, job_id, project_id) if self._plan.given is None else None
        reports = [(step_table(self._told.steps), "results.csv")] if self._plan.given is None else []
        reports += [(path.read_bytes(), path.name) for path in (result.paths.html, result.paths.json)]
        files = [
            written_file(
                self._store, content, file_id=new_id("file-"), project_id=project_id, filename=f"{job_id}-{name}"
            )
            for content, name in reports
        ]
        training = result.report.training
        with self._store.writing() as connection:
            require_held(connection, held.lease, JobStatus.RUNNING)
            for file in files:
                add_file(connection, file)
            events = [JobEvent(key="verdict", message=f"Verdict: {result.report.verdict.headline}")]
            if model is not None:
                add_tuned_model(connection, model)
                if (attached := index_for(model, self._plan, result.model.plan.style)) is not None:
                    attach_index(connection, attached)
                events.append(JobEvent(key="model", message=f"New fine-tuned model created: {model.id}"))
            events.append(JobEvent(key="succeeded", message="The job has successfully completed"))
            add_events(connection, job_id, *events)
            change_status(
                connection,
                job_id,
                from_=[JobStatus.RUNNING],
                to=JobStatus.SUCCEEDED,
                finished_at=now(),
                estimated_finish=None,
                tuned_model=None if model is None else model.id,
                num_trained_tokens=None if training is None else training.num_processed_tokens,
                results_files=[file.id for file in files],
            )
        if model is not None:
            self._listener.on_message(f"The tuned model can be asked for as {model.id} (`fettle serve`)")

    def on_stage(self, stage: Stage) -> None:
        """Pass it on, and tell the store of the training's steps.

        Raises:
            StudyStoppedError: Somebody has paused or cancelled the study.
        """
        self._listener.on_stage(stage)
        if self._held is None or self._told is None:
            return
        status = self._held.status
        if status is not JobStatus.RUNNING:
            raise StudyStoppedError(
                f"the study was {status.value} through the API",
                remedy="the same command goes on from here"
                if status is JobStatus.PAUSED
                else "the same command begins it anew as another job; what was finished is kept",
            )
        self._told.tell(self._told.new_steps())

    def on_message(self, text: str) -> None:
        """Pass it on."""
        self._listener.on_message(text)

    def _leave(self, held: HeldJob, error: BaseException) -> None:
        """The study has stopped: it can be gone on with, by the same command."""
        reason = error.describe() if isinstance(error, FettleError) else "it was interrupted"
        event = JobEvent(
            key=new_id("stopped-"), level=Level.WARN, message=f"The study stopped ({reason}); the same command goes on"
        )
        with suppress(LeaseLostError), self._store.writing() as connection:  # another process has it, or it is over
            require_held(connection, held.lease, JobStatus.RUNNING)
            change_status(
                connection, held.lease.job_id, from_=[JobStatus.RUNNING], to=JobStatus.PAUSED, estimated_finish=None
            )
            add_events(connection, held.lease.job_id, event)

    def _project_id(self) -> str:
        with self._store.writing() as connection:
            return ensure_project(connection, self._plan.settings.project).id

    def _job(self) -> Job:
        """The study's job: that of an earlier run of the same command, else a new one."""
        project_id = self._project_id()
        with self._store.reading() as connection:
            found = list_jobs(connection, project_id, PageRequest(limit=1), metadata={_KEY: _name_of(self._plan)})
        if found.items and not found.items[0].status.is_final:
            return found.items[0]
        if found.items and found.items[0].status is JobStatus.SUCCEEDED and not self._plan.settings.fresh:
            return found.items[0]
        return self._new_job(project_id)

    def _new_job(self, project_id: str) -> Job:
        split, source = self._plan.split, self._plan.loaded.source
        parts = {"train": split.train, "valid": split.valid}
        files = {name: self._split_file(project_id, name, part) for name, part in parts.items() if part}
        given = self._plan.given
        used = {
            "n_epochs": self._plan.settings.training.epochs,
            "batch_size": self._plan.settings.training.batch_size,
            "learning_rate_multiplier": 1.0,
        }
        job = Job(
            id=new_id("ftjob-"),
            project_id=project_id,
            kind=JobKind.STUDY,
            status=JobStatus.QUEUED,
            created_at=now(),
            request=self._request.as_json,
            model=source.public_id if given is None else given.name,
            metadata={_KEY: _name_of(self._plan)},
            used=used if given is None else None,
            training_file=files["train"].id,
            validation_file=files["valid"].id if "valid" in files else None,
        )
        with self._store.writing() as connection:
            if source.public_id not in {base.id for base in list_base_models(connection)}:
                put_base_model(connection, source.public_id, str(source.path.resolve()))
            for file in files.values():
                add_file(connection, file)
            add_job(connection, job)
            about = f"a study of {self._plan.data.name}, {len(split.train)} training examples"
            if given is not None:
                about = f"a study of {given.name} with {self._plan.data.name}, {len(split.test)} test examples"
            add_events(
                connection, job.id, JobEvent(key="created", message=f"Created fine-tuning job: {job.id} ({about})")
            )
            return read_job(connection, job.id)

    def _split_file(self, project_id: str, part: str, examples: Sequence[Example]) -> StoredFile:
        content = chat_lines(examples).encode()
        name = f"{self._plan.data.name}-{part}.jsonl"
        return written_file(
            self._store, content, file_id=new_id("file-"), project_id=project_id, filename=name, purpose=FINE_TUNE
        )

    def _tuned_model(self, result: StudyResult, job_id: str, project_id: str) -> TunedModel | None:
        """What was tuned, in its place; None: it was trained beside weights in 4 bits, which the server does not hold."""
        method = self._plan.settings.training.method
        if method.base_weights is BaseWeights.NF4:
            self._listener.on_message(
                "A model tuned beside 4-bit weights is not served: export it, or use --method lora"
            )
            return None
        place = f"{job_id}/final"
        copy_folder(result.tuned, self._store.models / place)
        prompts = [result.model.plan.prompt(example) for example in self._plan.split.valid[:NUM_CHECK_PROMPTS]]
        write_check_prompts(self._store.models / place, prompts)
        loaded = self._plan.loaded
        return TunedModel(
            id=self._request.new_model_name(_ORGANIZATION_ID),
            project_id=project_id,
            base=loaded.source.public_id,
            base_sha256=loaded.source.sha256(),
            template_sha256=loaded.renderer.template.sha256,
            folder=place,
            is_adapter=method.trains_adapter,
            job_id=job_id,
            step=None,
            created_at=now(),
        )


def index_for(model: TunedModel, plan: StudyPlan, style: PromptStyle) -> AttachedIndex | None:
    """The index that a study's model was trained to answer from, searched and worded as it was; None: it answers without.

    Args:
        model: What was tuned.
        plan: Of the study.
        style: How the model is asked.
    """
    if plan.documents is None or not isinstance(style, RetrievedPassages):
        return None
    search, split = plan.documents.settings.search, plan.split
    part = system_part_of((*split.train, *split.valid, *split.test))
    return AttachedIndex(
        model=model.id,
        project_id=model.project_id,
        index_id=plan.documents.index.description.id,
        num_passages=style.num_passages,
        method=search.method.value,
        reranker=search.reranker,
        max_tokens=search.max_tokens,
        abstention=style.wording.abstention,
        asks_for_citations=style.wording.asks_for_citations,
        system_begin=None if part is None else part.begin,
        system_end="" if part is None else part.end,
    )


def finished_study_job(connection: Connection, project_id: str, key: str, folder: Path) -> Job | None:
    """The job that a finished study was; None: there is none in this store.

    Args:
        connection: To the database.
        project_id: Whose study.
        key: As in its folder (`fettle.study.workspace.study_key`).
        folder: Where it lies.
    """
    name = sha256_of_json([key, str(folder.resolve())])
    found = list_jobs(connection, project_id, PageRequest(limit=1), metadata={_KEY: name})
    return next((job for job in found.items if job.status is JobStatus.SUCCEEDED), None)


def _name_of(plan: StudyPlan) -> str:
    """Which study it is: the same one in two folders is two jobs, which may run at the same time."""
    return sha256_of_json([plan.key, str(plan.folder.resolve())])


def _request_of(plan: StudyPlan) -> FineTuningRequest:
    training, is_given = plan.settings.training, plan.given is not None
    hyperparameters = Hyperparameters(
        n_epochs=training.epochs, batch_size=training.batch_size, learning_rate_multiplier=1.0
    )
    return FineTuningRequest(
        base=plan.loaded.source.public_id,
        continues=None if plan.given is None else plan.given.name,
        seed=training.seed,
        suffix=plan.data.name[:_MOST_SUFFIX],
        hyperparameters=Hyperparameters() if is_given else hyperparameters,
    )
