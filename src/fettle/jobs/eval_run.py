"""A run of an eval: its rows are read, a model answers them where it is to, and every answer is held against the criteria.

What is done is kept some items at a time, each in one transaction under the claim to the job. Whoever claims the job next goes on
with the items that are left, so that none is done twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from fettle.answering.engine_pool import configured_pool
from fettle.errors import DataError, FettleError
from fettle.jobs.asked_models import AskedModel, PoolSampler
from fettle.jobs.catalogue import StoreCatalogue
from fettle.jobs.eval_criteria import Criterion, CriterionResult, read_criteria
from fettle.jobs.eval_progress import RunProgress
from fettle.jobs.eval_rows import BadEvalRowError, checked_rows, rows_of_content, rows_of_file
from fettle.jobs.eval_sample import as_sample, sample_to_grade, usage_of
from fettle.jobs.eval_source import Completion, read_run_source
from fettle.jobs.held import HeldJob
from fettle.jobs.item_schema import read_item_schema
from fettle.jobs.outcome import fail_job
from fettle.records import Message
from fettle.scoring.openai_grader import Attempt, Grade, GradingServices, MissingVariableError
from fettle.scoring.openai_graders.registry import require_services
from fettle.scoring.sandbox.code_runner import CodeRunner
from fettle.store.database import Store, now
from fettle.store.evals import (
    EvalItem,
    ItemStatus,
    StoredEval,
    add_items,
    find_eval,
    next_items,
    next_unsampled_items,
    set_results,
    set_sample,
)
from fettle.store.files import NoSuchFileError, content_of, find_file
from fettle.store.jobs import Job, JobError, JobStatus, LeaseLostError, change_status, require_held, set_values
from fettle.store.models import NoSuchModelError

_ITEMS_AT_ONCE = 16
_MOST_CRASHES = 5


class _StoppedError(Exception):
    """This worker is to stop, or the run is another's, or over."""


class EvalRun:
    """One life of a run.

    Args:
        store: Where it is.
        job: The run.
        held: The claim to it.
        code_runner: Runs criteria that are code.
    """

    def __init__(self, store: Store, job: Job, held: HeldJob, *, code_runner: CodeRunner) -> None:
        self._store, self._job, self._held = store, job, held
        self._stops = threading.Event()
        self._source = read_run_source(job.request["data_source"])
        self._progress = None if job.used is None else RunProgress.from_json(job.used)
        self._catalogue, self._pool = StoreCatalogue(store), configured_pool(max_bases=1)
        sampler = PoolSampler(self._pool, self._catalogue, job.project_id, is_wanted=self._is_wanted)
        self._services = GradingServices(code_runner=code_runner, sampler=sampler)

    def run(self, stops: threading.Event) -> None:
        """Go on until the end, or until the run is cancelled, or `stops` is set.

        Raises:
            LeaseLostError: Another worker has the run, or it was cancelled or deleted.
            FettleError: It cannot be done.
        """
        self._stops = stops
        try:
            if self._begin():
                self._do()
        except (DataError, NoSuchModelError) as error:  # of what was asked for, not of ours
            code = "model_not_found" if isinstance(error, NoSuchModelError) else "invalid_data"
            fail_job(self._store, self._held, JobError(code=code, message=error.describe()))
        except _StoppedError:  # whoever claims it next goes on, where it was not cancelled
            if self._stops.is_set():
                with self._store.writing() as connection:
                    set_values(connection, self._held.lease, num_crashes=0)
        finally:
            self._pool.close()

    # ------------------------------------------------------------------------------------------- its steps

    def _begin(self) -> bool:
        """Whether there is something to do; a run whose worker has died too often fails."""
        with self._store.writing() as connection:
            if self._job.status is JobStatus.QUEUED:
                first = {} if self._job.started_at else {"started_at": now()}
                change_status(connection, self._job.id, from_=[JobStatus.QUEUED], to=JobStatus.RUNNING, **first)
            require_held(connection, self._held.lease, JobStatus.RUNNING)
            set_values(connection, self._held.lease, num_crashes=self._job.num_crashes + 1)
        if self._job.num_crashes < _MOST_CRASHES:
            return True
        message = f"The worker ended {_MOST_CRASHES} times while it did this run. If it was killed for memory, use a smaller model."
        fail_job(self._store, self._held, JobError(code="server_error", message=message))
        return False

    def _do(self) -> None:
        with self._store.reading() as connection:
            definition = find_eval(connection, self._job.project_id, self._job.eval_id or "")
        criteria = read_criteria(definition.criteria)
        for number, criterion in enumerate(criteria):
            require_services(criterion.grader, self._services, f"testing_criteria[{number}]")
        progress = self._progress or self._read_rows(definition, criteria)
        if self._source.completion is not None:
            progress = self._sample(self._source.completion, progress)
        self._grade(criteria, progress)
        self._finish()

    def _read_rows(self, definition: StoredEval, criteria: Sequence[Criterion]) -> RunProgress:
        rows = checked_rows(
            self._rows(),
            read_item_schema(definition.data_source["item_schema"], "item_schema"),
            is_sampled=self._source.completion is not None,
            needs_sample=any(criterion.reads_sample for criterion in criteria),
        )
        progress = RunProgress.of_nothing([criterion.grader.name for criterion in criteria], num_items=len(rows))
        with self._store.writing() as connection:
            self._keep(connection, progress)
            add_items(connection, self._job.id, rows)
        return progress

    def _rows(self) -> Iterator[tuple[str, Any]]:
        file_id = self._source.file_id
        if file_id is None:
            return rows_of_content(self._source.content)
        with self._store.reading() as connection:
            try:
                file = content_of(self._store, find_file(connection, self._job.project_id, file_id))
            except NoSuchFileError as error:
                raise BadEvalRowError(f"The file {file_id} was deleted before the run had read it") from error
        return rows_of_file(file)

    def _sample(self, completion: Completion, progress: RunProgress) -> RunProgress:
        """Let the model answer all items that have no answer yet."""
        model = self._catalogue.find(completion.model, self._job.project_id)
        while items := self._next(next_unsampled_items):
            with self._pool.engine_of(model) as engine:
                samples = _samples(AskedModel(engine, model, self._is_wanted), completion, items)
            if samples is None:
                raise _StoppedError
            for sample in samples:
                progress = progress.plus_usage(model.name, usage_of(sample))
            with self._store.writing() as connection:
                self._keep(connection, progress)
                for item, sample in zip(items, samples, strict=True):
                    set_sample(connection, item.id, sample)
        return progress

    def _grade(self, criteria: Sequence[Criterion], progress: RunProgress) -> RunProgress:
        """Hold all items that were not graded yet against the criteria."""
        while items := self._next(next_items):
            grades = self._grades(criteria, items)
            self._require_wanted()
            with self._store.writing() as connection:
                for item in items:
                    results = [criterion.result(grade) for criterion, grade in grades[item.id]]
                    status = _status(results)
                    for _, grade in grades[item.id]:
                        for model, usage in grade.usage_by_model.items():
                            progress = progress.plus_usage(model, usage)
                    progress = progress.plus_item(status, results)
                    set_results(connection, item.id, status, [asdict(result) for result in results])
                self._keep(connection, progress)
        return progress

    def _grades(
        self, criteria: Sequence[Criterion], items: Sequence[EvalItem]
    ) -> dict[str, list[tuple[Criterion, Grade]]]:
        """Each item's grades by its id; none where there is no sample."""
        grades: dict[str, list[tuple[Criterion, Grade]]] = {item.id: [] for item in items}
        attempts = {
            item.id: Attempt(sample=sample_to_grade(item.sample), item=item.item)
            for item in items
            if item.sample is not None and item.sample["error"] is None
        }
        for criterion in criteria if attempts else ():
            found = criterion.grader.grade(list(attempts.values()), self._services)
            for item_id, grade in zip(attempts, found, strict=True):
                grades[item_id].append((criterion, grade))
        return grades

    # ------------------------------------------------------------------------------------------- what they stand on

    def _next(self, read: Callable[[Connection, str, int], tuple[EvalItem, ...]]) -> tuple[EvalItem, ...]:
        """Some items that are to be done.

        Raises:
            _StoppedError: Nobody wants them done here any more.
        """
        self._require_wanted()
        with self._store.reading() as connection:
            return read(connection, self._job.id, _ITEMS_AT_ONCE)

    def _keep(self, connection: Connection, progress: RunProgress) -> None:
        require_held(connection, self._held.lease, JobStatus.RUNNING)
        set_values(connection, self._held.lease, used=progress.as_json, num_crashes=0)

    def _finish(self) -> None:
        with self._store.writing() as connection:
            require_held(connection, self._held.lease, JobStatus.RUNNING)
            change_status(
                connection, self._job.id, from_=[JobStatus.RUNNING], to=JobStatus.SUCCEEDED, finished_at=now()
            )

    def _is_wanted(self) -> bool:
        """Whether this worker goes on, and the run was not cancelled."""
        try:
            return not self._stops.is_set() and not self._held.status.is_final
        except LeaseLostError:
            return False

    def _require_wanted(self) -> None:
        if not self._is_wanted():
            raise _StoppedError


def _samples(asked: AskedModel, completion: Completion, items: Sequence[EvalItem]) -> list[dict[str, Any]] | None:
    """What the model says to each item, or why it says nothing; None: nobody waits any more."""
    questions = [_question(completion, item) for item in items]
    answers = asked.ask([(messages, completion.options) for messages, problem in questions if problem is None])
    if answers is None:
        return None
    left = iter(answers)
    return [
        as_sample(messages, next(left) if problem is None else problem, completion) for messages, problem in questions
    ]


def _question(completion: Completion, item: EvalItem) -> tuple[tuple[Message, ...], FettleError | None]:
    """What is asked, or why nothing can be."""
    try:
        return completion.messages_of(item.item), None
    except MissingVariableError as error:
        return (), DataError(f"{error}, and `input_messages` reads it")
    except FettleError as error:
        return (), error


def _status(results: Sequence[CriterionResult]) -> ItemStatus:
    if not results or any(result.error is not None for result in results):
        return ItemStatus.ERROR
    return ItemStatus.PASS if all(result.passed for result in results) else ItemStatus.FAIL
