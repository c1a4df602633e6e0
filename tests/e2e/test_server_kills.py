"""Whatever is killed, and whenever: a job succeeds, as an undisturbed one does, to the last bit, and tells everything once.

Six kills by default; FETTLE_TEST_KILLS says how many (`make test-kills`: twenty, on SQLite and on PostgreSQL).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from killed_home import NUM_STEPS, Outcome, Role, Served, home, until

from tiny_models import save_tiny_model

pytestmark = [pytest.mark.long, pytest.mark.timeout(3000)]

NUM_KILLS = int(os.environ.get("FETTLE_TEST_KILLS", "6"))
SEED = int(os.environ.get("FETTLE_TEST_SEED", "1"))
STEP_SECONDS = "0.1"
KEPT = {".lock", "process.log", "job.json", "started.json", "result.json", "error.json", "training"}
VICTIMS = {
    "the server alone": (Role.API,),
    "the worker": (Role.WORKER,),
    "the training": (Role.TRAINING,),
    "everything": tuple(Role),
}


@dataclass(frozen=True, slots=True)
class Kill:
    """One of the kills of a test."""

    victim: str
    after_step: int
    """Of those that the training has ever taken; 0: while all starts; the last one: while the model is made known."""
    delay_seconds: float


def planned_kills(count: int, *, seed: int) -> list[Kill]:
    """Kills spread over the life of a job; no more of the training in a row than its crashes are forgiven."""
    rng = random.Random(seed)
    steps = sorted([0, NUM_STEPS, *(rng.randrange(NUM_STEPS + 1) for _ in range(count - 2))])
    kills: list[Kill] = []
    for step in steps:
        victims = list(VICTIMS)
        if [kill.victim for kill in kills[-3:]] == ["the training"] * 3:
            victims.remove("the training")
        delay = rng.uniform(0, 4.0 if step == 0 else 0.5)
        kills.append(Kill(rng.choice(victims), step, delay))
    return kills


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model = save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", "qwen2")
    with home(tmp_path_factory.mktemp("kills") / "home", model) as served:
        yield served


@pytest.fixture(scope="module")
def undisturbed(served: Served) -> Outcome:
    served.start()
    job_id = served.new_job()
    assert served.wait_for_end(job_id) == "succeeded"
    outcome = served.outcome(job_id)
    served.stop()
    return outcome


@pytest.mark.long
def test_a_job_survives_kills_of_everything_at_any_moment(served: Served, undisturbed: Outcome) -> None:
    served.start(step_seconds=STEP_SECONDS)
    job_id = served.new_job()
    for kill in planned_kills(NUM_KILLS, seed=SEED):
        reach(served, job_id, kill.after_step)
        time.sleep(kill.delay_seconds)  # the random moment itself
        until(lambda kill=kill: served.alive(*VICTIMS[kill.victim]) or is_over(served, job_id), "there is a victim")
        num_killed = served.kill(*VICTIMS[kill.victim])
        print(f"{kill}: {num_killed} processes, {served.steps_taken(job_id)} steps taken")  # noqa: T201 (shown where it fails)
        if not served.alive(Role.API):
            served.start(step_seconds=STEP_SECONDS)
    assert served.wait_for_end(job_id) == "succeeded"
    found = served.outcome(job_id)
    assert found.events == undisturbed.events
    assert found.results == undisturbed.results
    assert found == undisturbed
    until(lambda: {path.name for path in served.folder(job_id).iterdir()} <= KEPT, "the job's folder is tidied up")
    assert [path.name for path in (served.folder(job_id) / "training").iterdir()] == ["events.jsonl"]
    assert not list((served.home / "models").rglob(".*"))
    known = {file["id"] for file in served.get("/files?limit=1000")["data"]}
    assert {path.name for path in (served.home / "files").iterdir() if not path.name.startswith(".file-")} == known
    served.stop()


def is_over(served: Served, job_id: str) -> bool:
    return served.job(job_id)["status"] == "succeeded"


def reach(served: Served, job_id: str, step: int) -> None:
    """Wait until the training has come so far, or all is over."""
    if step == NUM_STEPS:
        done = (served.folder(job_id) / "result.json").exists
        until(lambda: done() or is_over(served, job_id), "the training is over")
    else:
        served.wait_for_step(job_id, step)
