"""Lists of jobs, of their events and checkpoints, and pausing and cancelling of jobs that do not run (sections 1.5, 5.3, 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from api_server import RunningServer
from training_files import upload

TINY = "tiny-chat"


def new_job(client: openai.OpenAI, file_id: str, **values: Any) -> str:
    return client.fine_tuning.jobs.create(model=TINY, training_file=file_id, **values).id


def test_an_empty_list(idle_client: openai.OpenAI) -> None:
    page = idle_client.fine_tuning.jobs.list()
    assert (page.data, page.has_more) == ([], False)


def test_jobs_are_listed_the_newest_first_and_paged_without_loss(idle_client: openai.OpenAI) -> None:
    file = upload(idle_client)
    made = [new_job(idle_client, file.id) for _ in range(23)]
    first = idle_client.fine_tuning.jobs.list()
    assert len(first.data) == 20
    assert first.has_more
    for limit in (1, 7, 23, 100):
        assert [job.id for job in idle_client.fine_tuning.jobs.list(limit=limit)] == made[::-1]
    last = idle_client.fine_tuning.jobs.list(limit=3, after=made[3])
    assert ([job.id for job in last.data], last.has_more) == (made[2::-1], False)


def test_pages_lose_and_repeat_nothing_while_new_jobs_come(idle_client: openai.OpenAI) -> None:
    file = upload(idle_client)
    made = [new_job(idle_client, file.id) for _ in range(6)]
    seen = []
    for job in idle_client.fine_tuning.jobs.list(limit=2):
        seen.append(job.id)
        new_job(idle_client, file.id)
    assert seen == made[::-1]


FILTERS: list[tuple[dict[str, str], list[int]]] = [
    ({"team": "a"}, [1, 0]),
    ({"team": "a", "run": "1"}, [0]),
    ({"team": "b"}, []),
    ({"tea": "a"}, []),
    ({"": "x"}, []),
    ({'quo"te': "x"}, [2]),
    ({"dot.ted": "y"}, [2]),
    ({"0": "zero"}, [2]),
    ({"$": "dollar"}, [2]),
    ({"ключ": "значение"}, [2]),
    ({"a[b]": "bracket"}, [2]),
    ({"it's": "back\\slash"}, [2]),
    ({"%": "_"}, [2]),
]


@pytest.fixture(scope="module")
def labelled(idle_server: RunningServer) -> tuple[openai.OpenAI, list[str]]:
    """A client, and its jobs with metadata, with odd metadata, and without."""
    client = idle_server.client(idle_server.new_key("labelled"))
    file = upload(client)
    odd = {'quo"te': "x", "dot.ted": "y", "0": "zero", "$": "dollar", "ключ": "значение", "a[b]": "bracket"}
    odd |= {"it's": "back\\slash", "%": "_"}
    metadata = [{"team": "a", "run": "1"}, {"team": "a", "run": "2"}, odd, None]
    return client, [new_job(client, file.id, metadata=values) for values in metadata]


@pytest.mark.parametrize(("pairs", "wanted"), FILTERS)
def test_jobs_are_found_by_their_metadata(
    labelled: tuple[openai.OpenAI, list[str]], pairs: dict[str, str], wanted: list[int]
) -> None:
    client, made = labelled
    if "" in pairs:
        with pytest.raises(openai.BadRequestError):
            client.fine_tuning.jobs.list(metadata=pairs)
        return
    assert [job.id for job in client.fine_tuning.jobs.list(metadata=pairs)] == [made[number] for number in wanted]


def test_jobs_without_metadata_are_found(labelled: tuple[openai.OpenAI, list[str]]) -> None:
    client, made = labelled
    found = client.fine_tuning.jobs.list(extra_query={"metadata": "null"})
    assert [job.id for job in found] == [made[3]]


def test_a_metadata_filter_holds_on_every_page(labelled: tuple[openai.OpenAI, list[str]]) -> None:
    client, made = labelled
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"team": "a"}, limit=1)] == [made[1], made[0]]


def test_one_job(idle_client: openai.OpenAI) -> None:
    job_id = new_job(idle_client, upload(idle_client).id)
    assert idle_client.fine_tuning.jobs.retrieve(job_id).id == job_id


ACTIONS: list[Callable[[openai.OpenAI, str], object]] = [
    lambda client, job_id: client.fine_tuning.jobs.retrieve(job_id),
    lambda client, job_id: client.fine_tuning.jobs.cancel(job_id),
    lambda client, job_id: client.fine_tuning.jobs.pause(job_id),
    lambda client, job_id: client.fine_tuning.jobs.resume(job_id),
    lambda client, job_id: client.fine_tuning.jobs.list_events(job_id),
    lambda client, job_id: client.fine_tuning.jobs.checkpoints.list(job_id),
]


@pytest.mark.parametrize("action", ACTIONS, ids=["retrieve", "cancel", "pause", "resume", "events", "checkpoints"])
@pytest.mark.parametrize("job_id", ["ftjob-nothing", "file-x", "../../etc/passwd"[6:], "a b"])
def test_an_unknown_job_is_404(
    idle_client: openai.OpenAI, action: Callable[[openai.OpenAI, str], object], job_id: str
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        action(idle_client, job_id)
    if "/" not in job_id:
        assert caught.value.code == "fine_tune_not_found"
        assert f"Could not find fine tune: {job_id}" in caught.value.message


def test_a_waiting_job_is_cancelled_at_once_and_for_good(idle_client: openai.OpenAI) -> None:
    job_id = new_job(idle_client, upload(idle_client).id)
    cancelled = idle_client.fine_tuning.jobs.cancel(job_id)
    assert (cancelled.status, cancelled.fine_tuned_model, cancelled.error) == ("cancelled", None, None)
    assert cancelled.finished_at
    assert idle_client.fine_tuning.jobs.cancel(job_id).status == "cancelled"
    newest = idle_client.fine_tuning.jobs.list_events(job_id).data[0]
    assert newest.level == "error"
    assert "cancel" in newest.message


@pytest.mark.parametrize("headers", [{"content-type": "application/json"}, {}])
def test_cancelling_needs_no_body(raw: httpx2.Client, idle_client: openai.OpenAI, headers: dict[str, str]) -> None:
    job_id = new_job(idle_client, upload(idle_client).id)
    answer = raw.post(
        f"/fine_tuning/jobs/{job_id}/cancel",
        headers={"Authorization": f"Bearer {idle_client.api_key}"} | headers,
        content=b"",
    )
    assert answer.json()["status"] == "cancelled"


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_job_that_waits_can_be_neither_paused_nor_resumed(idle_client: openai.OpenAI, verb: str) -> None:
    job_id = new_job(idle_client, upload(idle_client).id)
    with pytest.raises(openai.BadRequestError) as caught:
        getattr(idle_client.fine_tuning.jobs, verb)(job_id)
    assert job_id in caught.value.message
    assert idle_client.fine_tuning.jobs.retrieve(job_id).status == "validating_files"


def test_the_events_of_a_new_job(idle_client: openai.OpenAI) -> None:
    training, validation = upload(idle_client), upload(idle_client)
    job_id = new_job(idle_client, training.id, validation_file=validation.id)
    events = idle_client.fine_tuning.jobs.list_events(job_id).data
    assert [event.message for event in events] == [
        f"Validating training file: {training.id} and validation file: {validation.id}",
        f"Created fine-tuning job: {job_id}",
    ]
    assert all(event.id.startswith("ftevent-") for event in events)
    assert all((event.type, event.level, event.data) == ("message", "info", {}) for event in events)


def test_a_new_job_has_no_checkpoints(idle_client: openai.OpenAI) -> None:
    page = idle_client.fine_tuning.jobs.checkpoints.list(new_job(idle_client, upload(idle_client).id))
    assert (page.data, page.has_more, page.first_id, page.last_id) == ([], False, None, None)


@pytest.mark.parametrize(("what", "most"), [("events", 1000), ("checkpoints", 100)])
def test_pages_of_a_job_have_bounds(idle_client: openai.OpenAI, what: str, most: int) -> None:
    path = f"/fine_tuning/jobs/{new_job(idle_client, upload(idle_client).id)}/{what}"
    idle_client.get(f"{path}?limit={most}", cast_to=dict[str, Any])
    for query in (f"limit={most + 1}", "limit=0", "limit=x"):
        with pytest.raises(openai.BadRequestError) as caught:
            idle_client.get(f"{path}?{query}", cast_to=dict[str, Any])
        assert caught.value.param == "limit"
    with pytest.raises(openai.BadRequestError) as caught:
        idle_client.get(f"{path}?after=ftevent-nothing", cast_to=dict[str, Any])
    assert caught.value.param == "after"
