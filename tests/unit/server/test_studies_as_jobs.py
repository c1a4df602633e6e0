"""A study among the jobs of the API."""

from __future__ import annotations

from fettle.jobs.fine_tuning import FineTuningRequest, Hyperparameters
from fettle.store.database import Store, now
from fettle.store.jobs import Job, JobKind, JobStatus, add_job
from fettle.store.keys import ensure_project
from serving import served


def test_a_paused_study_is_shown_and_cancelled_but_goes_on_by_its_own_command_alone(store: Store) -> None:
    request = FineTuningRequest(base="tiny", continues=None, seed=1, suffix="s", hyperparameters=Hyperparameters())
    with served(store) as server:
        with store.writing() as connection:
            job = Job(
                id="ftjob-study",
                project_id=ensure_project(connection, "default").id,
                kind=JobKind.STUDY,
                status=JobStatus.PAUSED,
                created_at=now(),
                request=request.as_json,
                model="tiny",
                training_file="file-1",
            )
            add_job(connection, job)
        path = f"/v1/fine_tuning/jobs/{job.id}"
        refused = server.post(f"{path}/resume")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_status")
        assert "`fettle study`" in refused.json()["error"]["message"]
        assert server.get(path).json()["status"] == "paused"
        assert server.post(f"{path}/cancel").json()["status"] == "cancelled"
