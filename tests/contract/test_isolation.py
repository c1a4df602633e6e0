"""Two projects on one server: what belongs to one is, to the other, as if it had never been. Every route of the API is tried."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from in_process import InProcess, application
from training_files import training_content

from fettle.store.database import Store, now
from fettle.store.keys import create_key
from fettle.store.models import TunedModel, add_tuned_model, put_alias

Ids = dict[str, str]
"""An id for each path parameter of the API, `{job_id}` and so on, and for what only bodies name."""
INVENTED: Ids = {
    "file_id": "file-AAAAAAAAAAAAAAAAAAAAAAAA",
    "upload_id": "upload_AAAAAAAAAAAAAAAAAAAAAAAA",
    "part_id": "part_AAAAAAAAAAAAAAAAAAAAAAAA",
    "job_id": "ftjob-AAAAAAAAAAAAAAAAAAAAAAAA",
    "name": "ft:tiny-chat:fettle::AAAAAAAA",
    "eval_id": "eval_AAAAAAAAAAAAAAAAAAAAAAAA",
    "run_id": "evalrun_AAAAAAAAAAAAAAAAAAAAAAAA",
    "item_id": "outputitem_AAAAAAAAAAAAAAAAAAAAAAAA",
    "checkpoint": "ft:tiny-chat:fettle::CCCCCCCC:ckpt-step-1",
    "permission_id": "cp_AAAAAAAAAAAAAAAAAAAAAAAA",
    "vector_store_id": "vs_AAAAAAAAAAAAAAAAAAAAAAAA",
    "batch_id": "vsfb_AAAAAAAAAAAAAAAAAAAAAAAA",
}
_WITHOUT_OWNER = ("/healthz", "/readyz")
_REFUSED_TO_ALL = "/v1/fine_tuning/checkpoints/"


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoProjects:
    """One owns everything; the other has a key and an upload of its own."""

    store: Store
    owner: TestClient
    other: TestClient
    ids: Ids
    """The owner's."""
    own_upload: str
    """The other one's."""
    routes: list[tuple[str, str]]
    """Verb and path of all routes."""


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[TwoProjects]:
    with application(tmp_path_factory.mktemp("isolation") / "home", tiny_model_folder) as running:
        owner = TestClient(running.app, base_url="http://test", headers=running.headers)
        secret, _ = create_key(running.context.store, "test", "other")
        other = TestClient(running.app, base_url="http://test", headers={"Authorization": f"Bearer {secret}"})
        description = running.app.openapi()["paths"]
        routes = [(verb.upper(), path) for path, verbs in description.items() for verb in verbs]
        yield TwoProjects(
            store=running.context.store,
            owner=owner,
            other=other,
            ids=_everything(running, owner, routes),
            own_upload=_upload(other),
            routes=[route for route in routes if route[1] not in _WITHOUT_OWNER],
        )


def _everything(running: InProcess, owner: TestClient, routes: list[tuple[str, str]]) -> Ids:
    """One of each thing that there is, all of one project."""
    file = _sent(owner, "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", training_content())})
    job = _sent(owner, "/v1/fine_tuning/jobs", json={"model": "tiny-chat", "training_file": file["id"]})
    upload_id = _upload(owner)
    part = _sent(owner, f"/v1/uploads/{upload_id}/parts", files={"data": ("a", b"12345")})
    ids = {"file_id": file["id"], "job_id": job["id"], "upload_id": upload_id, "part_id": part["id"]}
    if ("POST", "/v1/evals") in routes:
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        criterion = {"type": "string_check", "name": "c", "input": "{{item.a}}", "reference": "a", "operation": "eq"}
        source = {"type": "custom", "item_schema": schema}
        made = _sent(owner, "/v1/evals", json={"data_source_config": source, "testing_criteria": [criterion]})
        rows = {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"a": "a"}}]}}
        run = _sent(owner, f"/v1/evals/{made['id']}/runs", json={"data_source": rows})
        ids |= {"eval_id": made["id"], "run_id": run["id"]}
    store = _sent(owner, "/v1/vector_stores", json={"name": "handbook"})
    batch = _sent(owner, f"/v1/vector_stores/{store['id']}/file_batches", json={"file_ids": [file["id"]]})
    ids |= {"vector_store_id": store["id"], "batch_id": batch["id"]}
    return INVENTED | ids | {"name": _tuned_model(running, owner, job["id"])}


def _sent(http: TestClient, path: str, **body: Any) -> dict[str, Any]:
    answer = http.post(path, **body)
    assert answer.status_code in (200, 201), (path, answer.text)
    return answer.json()


def _upload(http: TestClient) -> str:
    about = {"filename": "a", "bytes": 5, "mime_type": "text/plain", "purpose": "fine-tune"}
    return _sent(http, "/v1/uploads", json=about)["id"]


def _tuned_model(running: InProcess, owner: TestClient, job_id: str) -> str:
    store = running.context.store
    with store.writing() as connection:
        project_id = _project_of(running, owner)
        model = TunedModel(
            id="ft:tiny-chat:fettle::BBBBBBBB",
            project_id=project_id,
            base="tiny-chat",
            base_sha256="",
            template_sha256="",
            folder="nowhere",
            is_adapter=True,
            job_id=job_id,
            step=None,
            created_at=now(),
        )
        add_tuned_model(connection, model)
    return model.id


def _project_of(running: InProcess, http: TestClient) -> str:
    from fettle.store.keys import owner_of

    found = owner_of(running.context.store, http.headers["authorization"].removeprefix("Bearer "))
    assert found is not None
    return found.project_id


def url(path: str, ids: Ids) -> str:
    return re.sub(r"\{(\w+)(:path)?\}", lambda found: ids[found[1]], path)


def bodies(path: str, ids: Ids) -> dict[str, Any]:
    """What a route wants to be sent before it looks for what its path names."""
    if path.endswith("/parts"):
        return {"files": {"data": ("a", b"1")}}
    if path.endswith("/complete"):
        return {"json": {"part_ids": [ids["part_id"]]}}
    if path.endswith("/runs"):
        rows = {"type": "jsonl", "source": {"type": "file_id", "id": ids["file_id"]}}
        return {"json": {"data_source": rows}}
    if path.startswith("/v1/vector_stores/"):
        wanted = {"/files": {"file_id": ids["file_id"]}, "/file_batches": {"file_ids": [ids["file_id"]]}}
        wanted |= {"/search": {"query": "a"}, "{file_id}": {"attributes": {}}, "{vector_store_id}": {}}
        return next(({"json": body} for end, body in wanted.items() if path.endswith(end)), {})
    return {"json": {}} if path == "/v1/evals/{eval_id}" else {}


def without_ids(answer: httpx2.Response, ids: Ids) -> tuple[int, str]:
    """An answer in which it cannot be seen any more what was asked for."""
    text = re.sub(r"\d{10}", "TIME", answer.text)
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    return answer.status_code, text


def test_every_parameter_of_a_path_is_one_that_this_test_knows(projects: TwoProjects) -> None:
    named = {name for _, path in projects.routes for name in re.findall(r"\{(\w+)", path)}
    assert named <= set(INVENTED)


def test_what_is_the_others_answers_like_what_never_was(projects: TwoProjects) -> None:
    tried = [route for route in projects.routes if "{" in route[1]]
    assert len(tried) > 10
    for verb, path in tried:
        foreign = projects.other.request(verb, url(path, projects.ids), **bodies(path, projects.ids))
        assert foreign.status_code == (403 if path.startswith(_REFUSED_TO_ALL) else 404), (verb, path, foreign.text)
        invented = projects.other.request(verb, url(path, INVENTED), **bodies(path, INVENTED))
        assert without_ids(foreign, projects.ids) == without_ids(invented, INVENTED), (verb, path)


def test_the_owner_finds_all_of_it_and_nothing_of_it_was_changed(projects: TwoProjects) -> None:
    for verb, path in projects.routes:
        if verb == "GET" and "{item_id}" not in path and not path.endswith("/weights"):
            answer = projects.owner.get(url(path, projects.ids))
            assert answer.status_code == (403 if path.startswith(_REFUSED_TO_ALL) else 200), (path, answer.text)
            assert answer.text.replace('"cancelled":0', "").count("cancel") == 0, answer.text


def test_lists_show_nothing_of_the_other(projects: TwoProjects) -> None:
    lists = [path for verb, path in projects.routes if verb == "GET" and "{" not in path]
    assert len(lists) >= 3
    unknown = INVENTED["file_id"]
    for path in lists:
        shown = projects.other.get(path, params={"limit": 100} if path != "/v1/models" else {}).text
        assert not [name for name in projects.ids.values() if name in shown], path
        for name in projects.ids.values():
            foreign = projects.other.get(path, params={"after": name})
            invented = projects.other.get(path, params={"after": unknown})
            assert without_ids(foreign, {"it": name}) == without_ids(invented, {"it": unknown}), (path, name)


def file_search(ids: Ids) -> dict[str, Any]:
    return {"type": "file_search", "vector_store_ids": [ids["vector_store_id"]]}


REFERENCES: dict[str, tuple[str, Callable[[Ids], dict[str, Any]]]] = {
    "a training file": ("/v1/fine_tuning/jobs", lambda ids: {"model": "tiny-chat", "training_file": ids["file_id"]}),
    "a model to go on from": ("/v1/fine_tuning/jobs", lambda ids: {"model": ids["name"], "training_file": "file-x"}),
    "a model to ask": (
        "/v1/chat/completions",
        lambda ids: {"model": ids["name"], "messages": [{"role": "user", "content": "a"}]},
    ),
    "a model that grades": (
        "/v1/fine_tuning/alpha/graders/run",
        lambda ids: {
            "grader": {
                "type": "score_model",
                "name": "s",
                "model": ids["name"],
                "input": [{"role": "user", "content": "a"}],
            },
            "model_sample": "a",
        },
    ),
    "a model to answer": ("/v1/responses", lambda ids: {"model": ids["name"], "input": "a"}),
    "a vector store to search first, in a chat": (
        "/v1/chat/completions",
        lambda ids: {"model": "tiny-chat", "messages": [{"role": "user", "content": "a"}], "tools": [file_search(ids)]},
    ),
    "a vector store to search first": (
        "/v1/responses",
        lambda ids: {"model": "tiny-chat", "input": "a", "tools": [file_search(ids)]},
    ),
    "a file to search": ("/v1/vector_stores", lambda ids: {"file_ids": [ids["file_id"]]}),
    "a model that embeds": ("/v1/embeddings", lambda ids: {"model": ids["name"], "input": "a"}),
}


@pytest.mark.parametrize(("path", "body"), REFERENCES.values(), ids=REFERENCES.keys())
def test_bodies_that_name_the_others_things_are_refused_as_if_they_never_were(
    projects: TwoProjects, path: str, body: Callable[[Ids], dict[str, Any]]
) -> None:
    if ("POST", path) not in projects.routes:
        pytest.skip(f"there is no {path}")
    foreign = projects.other.post(path, json=body(projects.ids))
    invented = projects.other.post(path, json=body(INVENTED))
    told, other = without_ids(foreign, projects.ids), without_ids(invented, INVENTED)
    seconds = r'"execution_time":[^,}]+'
    assert re.sub(seconds, "", told[1]) == re.sub(seconds, "", other[1])
    assert foreign.status_code == invented.status_code
    assert foreign.status_code in (400, 404) or '"reward":0' in foreign.text


def test_an_alias_does_not_tell_what_model_of_the_other_it_stands_for(projects: TwoProjects) -> None:
    with projects.store.writing() as connection:
        put_alias(connection, "helpful-bot", projects.ids["name"])
    asked = {"model": "helpful-bot", "messages": [{"role": "user", "content": "a"}]}
    for answer in (
        projects.other.get("/v1/models/helpful-bot"),
        projects.other.post("/v1/chat/completions", json=asked),
    ):
        assert answer.status_code == 404
        assert projects.ids["name"] not in answer.text
        assert "helpful-bot" in answer.text
    assert projects.owner.get("/v1/models/helpful-bot").status_code == 200


def test_a_validation_file_of_the_other_is_refused(projects: TwoProjects) -> None:
    mine = _sent(
        projects.other, "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", training_content())}
    )
    body = {"model": "tiny-chat", "training_file": mine["id"]}
    foreign = projects.other.post("/v1/fine_tuning/jobs", json=body | {"validation_file": projects.ids["file_id"]})
    invented = projects.other.post("/v1/fine_tuning/jobs", json=body | {"validation_file": INVENTED["file_id"]})
    assert foreign.status_code == 400
    assert without_ids(foreign, projects.ids) == without_ids(invented, INVENTED)


def test_a_part_of_the_other_makes_no_file(projects: TwoProjects) -> None:
    path = f"/v1/uploads/{projects.own_upload}/complete"
    foreign = projects.other.post(path, json={"part_ids": [projects.ids["part_id"]]})
    invented = projects.other.post(path, json={"part_ids": [INVENTED["part_id"]]})
    assert foreign.status_code == 400
    assert without_ids(foreign, projects.ids) == without_ids(invented, INVENTED)


def test_without_a_key_no_route_answers(projects: TwoProjects) -> None:
    nobody = TestClient(projects.owner.app, base_url="http://test")
    for verb, path in projects.routes:
        for ids in (projects.ids, INVENTED):
            answer = nobody.request(verb, url(path, ids), **bodies(path, ids))
            assert answer.status_code == 401, (verb, path)
