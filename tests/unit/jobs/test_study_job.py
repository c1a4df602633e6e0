"""Studies as jobs: two at once, one that is cancelled, and one that was thought dead."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Connection, select

from fettle.contenders.retrieval import RememberedSearch, RetrievedPassages
from fettle.jobs.control import cancel_job
from fettle.jobs.study_job import StudyJob, StudyStoppedError, index_for
from fettle.models.precision import Precision
from fettle.progress import SilentListener, Stage
from fettle.records import Message
from fettle.retrieval.fence import Wording
from fettle.retrieval.records import SearchSettings
from fettle.store.database import Store
from fettle.store.jobs import Job, JobStatus, LeaseLostError, change_status, claim_this, read_job
from fettle.store.model_indexes import AttachedIndex
from fettle.store.tables import jobs
from fettle.study.planning import StudyPlan, plan_study
from fettle.study.settings import StudySettings
from found_passages import ListedRetriever
from tiny_models import save_tiny_model

STAGE = Stage(name="base answers the validation split", num_done=1, num_total=9)
WORDS = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heath", "inlet", "jetty", "knoll", "maple")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyPlan]:
    folder = tmp_path_factory.mktemp("study")
    rows = [
        (" ".join(WORDS[number * step % 12] + str(number * step % 97) for step in (1, 3, 5, 7, 11)), WORDS[number % 2])
        for number in range(1, 61)
    ]
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("message", "queue"), *rows])
    model = str(save_tiny_model(folder / "model", "qwen2"))
    plan = plan_study(
        StudySettings(examples=folder / "labels.csv", model=model, out=folder / "a", precision=Precision.EXACT)
    )
    yield plan
    plan.loaded.release()


def study_of(store: Store, plan: StudyPlan, *, lease_seconds: float = 60.0) -> StudyJob:
    return StudyJob(store, plan, SilentListener(), lease_seconds=lease_seconds)


def all_jobs(connection: Connection) -> list[Job]:
    ids = connection.execute(select(jobs.c.id).order_by(jobs.c.number)).scalars().all()
    return [read_job(connection, job_id) for job_id in ids]


def statuses(store: Store) -> list[JobStatus]:
    with store.reading() as connection:
        return [job.status for job in all_jobs(connection)]


def test_the_same_study_in_two_folders_is_two_jobs_that_run_at_once(store: Store, plan: StudyPlan) -> None:
    first, second = study_of(store, plan), study_of(store, replace(plan, folder=plan.folder.with_name("b")))
    with first.while_running(), second.while_running():
        first.on_stage(STAGE)
        second.on_stage(STAGE)
        assert statuses(store) == [JobStatus.RUNNING, JobStatus.RUNNING]


def test_a_study_that_is_begun_again_goes_on_as_the_same_job(store: Store, plan: StudyPlan) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), study_of(store, plan).while_running():
            raise KeyboardInterrupt
        assert statuses(store) == [JobStatus.PAUSED]


def test_a_study_that_is_cancelled_while_it_answers_stops(store: Store, plan: StudyPlan) -> None:
    study = study_of(store, plan, lease_seconds=0.5)

    def answer_until_stopped() -> None:
        with study.while_running():
            study.on_stage(STAGE)
            with store.writing() as connection:
                cancel_job(connection, all_jobs(connection)[0])
            end = time.monotonic() + 60
            while time.monotonic() < end:
                study.on_stage(STAGE)

    with pytest.raises(StudyStoppedError, match="cancelled through the API"):
        answer_until_stopped()
    assert statuses(store) == [JobStatus.CANCELLED]


def test_a_study_that_was_thought_dead_leaves_the_job_of_the_living_one_as_it_is(store: Store, plan: StudyPlan) -> None:
    study = study_of(store, plan, lease_seconds=0.5)

    def go_on_after_another_has_begun() -> None:
        with study.while_running():
            with store.writing() as connection:
                assert claim_this(connection, all_jobs(connection)[0].id, owner="the living one", seconds=60)
            end = time.monotonic() + 60
            while time.monotonic() < end:
                study.on_stage(STAGE)

    with pytest.raises(LeaseLostError):
        go_on_after_another_has_begun()
    assert statuses(store) == [JobStatus.RUNNING]


def test_a_study_that_is_cancelled_before_it_has_begun_again_is_another_job(store: Store, plan: StudyPlan) -> None:
    with pytest.raises(KeyboardInterrupt), study_of(store, plan).while_running():
        raise KeyboardInterrupt
    with store.writing() as connection:
        assert change_status(connection, all_jobs(connection)[0].id, from_=[JobStatus.PAUSED], to=JobStatus.CANCELLED)
    with study_of(store, plan).while_running():
        assert statuses(store) == [JobStatus.CANCELLED, JobStatus.RUNNING]


def test_the_index_of_a_model_is_searched_for_what_the_study_has_searched_for(plan: StudyPlan) -> None:
    settings, index = (
        SimpleNamespace(search=SearchSettings(max_tokens=90)),
        SimpleNamespace(description=SimpleNamespace(id="vs_1")),
    )
    shown = replace(plan, documents=cast("Any", SimpleNamespace(settings=settings, index=index)))
    style = RetrievedPassages(
        RememberedSearch(ListedRetriever({})), 3, Wording(abstention="No.", asks_for_citations=False)
    )
    model = cast("Any", SimpleNamespace(id="ft:a", project_id="p"))
    assert index_for(model, plan, style) is None
    assert index_for(model, shown, plan.style) is None
    attached = index_for(model, shown, style)
    assert attached == AttachedIndex(
        model="ft:a",
        project_id="p",
        index_id="vs_1",
        num_passages=3,
        method="hybrid",
        max_tokens=90,
        abstention="No.",
        asks_for_citations=False,
    )
    system = Message(role="system", content="Reply to this. Where is it?")
    asking = tuple(
        replace(one, messages=(system, *one.messages[1:]), context="Where is it?") for one in plan.split.test
    )
    data = replace(plan.data, split=replace(plan.split, test=asking))
    assert attached is not None
    assert index_for(model, replace(shown, data=data), style) == replace(attached, system_begin="Reply to this.")
