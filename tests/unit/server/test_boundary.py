"""What every answer has, and what no request can do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.responses import PlainTextResponse, StreamingResponse

from fettle.store.database import Store
from serving import Served, served

_LIMIT = 1000


@pytest.fixture
def server(store: Store) -> Iterator[Served]:
    with served(store, max_body_bytes=_LIMIT) as server:
        yield server


def assert_is_error(response: object, status: int) -> str:
    """The envelope's message."""
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    body = response.json()  # type: ignore[attr-defined]
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req_")  # type: ignore[attr-defined]
    return body["error"]["message"]


def test_every_answer_has_an_id_of_its_own(server: Served) -> None:
    answers = [
        server.get("/v1/models"),
        server.get("/v1/models"),
        server.get("/v1/nothing"),
        server.client.get("/v1/models"),
        server.client.get("/healthz"),
        server.client.get("/nothing"),
    ]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len(answers)


def test_a_fault_of_ours_has_an_id_and_the_form_of_all_errors(server: Served) -> None:
    @server.app.get("/faulty")
    def faulty() -> None:
        raise RuntimeError("with a secret in it")

    answer = server.client.get("/faulty")
    assert "secret" not in assert_is_error(answer, 500)
    assert answer.json()["error"]["type"] == "server_error"


def test_a_fault_in_the_middle_of_a_stream_ends_the_connection(server: Served) -> None:
    @server.app.get("/broken")
    def broken() -> StreamingResponse:
        def pieces() -> Iterator[str]:
            yield "first"
            raise RuntimeError("later")

        return StreamingResponse(pieces())

    with pytest.raises(RuntimeError, match="later"):  # uvicorn closes the connection
        server.client.get("/broken")


def test_errors_in_another_form_are_put_into_ours(server: Served) -> None:
    @server.app.get("/error/{status}")
    def error(status: int) -> PlainTextResponse:
        return PlainTextResponse("short and stout", status_code=status)

    for status in (418, 499, 502):
        assert_is_error(server.client.get(f"/error/{status}"), status)


def test_numbers_that_are_none_never_get_into_an_answer(server: Served) -> None:
    @server.app.get("/number")
    def number() -> dict[str, float]:
        return {"loss": float("nan"), "most": float("inf")}

    assert server.client.get("/number").json() == {"loss": None, "most": None}


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_body_that_is_too_long_is_refused_with_the_limit(server: Served, is_chunked: bool) -> None:
    body = b'{"model": "' + b"x" * 2 * _LIMIT + b'"}'
    content = iter([body[:900], body[900:]]) if is_chunked else body
    answer = server.post("/v1/fine_tuning/jobs", content=content, headers={"content-type": "application/json"})
    assert f"{_LIMIT} bytes" in assert_is_error(answer, 413)


def test_a_body_that_is_too_long_is_refused_where_none_is_read(server: Served) -> None:
    answer = server.client.request("GET", "/v1/models", content=b"x" * 2 * _LIMIT, headers=server.headers)
    assert f"{_LIMIT} bytes" in assert_is_error(answer, 413)


def test_a_body_just_as_long_as_the_limit_is_read(server: Served) -> None:
    body = b'{"model": "smollm2-135m-instruct"}'.ljust(_LIMIT)
    answer = server.post("/v1/fine_tuning/jobs", content=body, headers={"content-type": "application/json"})
    assert "training_file" in assert_is_error(answer, 400)


@pytest.mark.parametrize("path", ["/v1/models/%00", "/v1/fine_tuning/jobs/ftjob-%00abc", "/%00"])
def test_a_path_with_a_nul_character_leads_nowhere(server: Served, path: str) -> None:
    assert "%00" in assert_is_error(server.get(path), 404)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json", "content-encoding": "gzip"},
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "nonsense"},
        {"content-type": ""},
    ],
)
@pytest.mark.parametrize("content", [b"\x1f\x8b\x08 no gzip", b"\xff\xfe not utf-8", b'"text"', b"[1]", b"[" * 900])
def test_bodies_that_are_not_what_they_say_are_refused(server: Served, headers: dict[str, str], content: bytes) -> None:
    assert_is_error(server.post("/v1/fine_tuning/jobs", content=content, headers=headers), 400)


def test_what_the_sdks_say_of_themselves_is_no_harm(server: Served) -> None:
    headers = {
        "OpenAI-Organization": "org-somebody",
        "OpenAI-Project": "proj_somewhere",
        "OpenAI-Beta": "assistants=v2",
        "X-Stainless-Lang": "python",
        "X-Stainless-Retry-Count": "one",
    }
    assert server.get("/v1/models", headers=headers).status_code == 200


def test_browsers_are_not_let_in_unless_their_origin_is_named(store: Store) -> None:
    asks = {"origin": "https://app.example", "access-control-request-method": "POST"}
    with served(store) as server:
        assert "access-control-allow-origin" not in server.get("/v1/models", headers=asks).headers
    with served(store, cors_origins=("https://app.example",)) as server:
        preflight = server.client.options("/v1/chat/completions", headers=asks | {
            "access-control-request-headers": "authorization, content-type, x-stainless-os"
        })  # fmt: skip
        assert preflight.status_code == 200
        assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
        named = server.get("/v1/nothing", headers=asks)
        assert named.headers["access-control-allow-origin"] == "https://app.example"
        assert "x-request-id" in named.headers["access-control-expose-headers"]
        other = server.get("/v1/models", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


def test_files_have_a_bound_of_their_own(store: Store) -> None:
    with served(store, max_body_bytes=_LIMIT, max_file_bytes=5 * _LIMIT) as server:
        for num_bytes, status in ((4 * _LIMIT, 200), (6 * _LIMIT, 413)):
            form = {"files": {"file": ("rows.jsonl", b"x" * num_bytes)}, "data": {"purpose": "fine-tune"}}
            assert server.post("/v1/files", **form).status_code == status
            assert_is_error(server.client.post("/v1/files", **form), 401)
        upload = {"filename": "rows.jsonl", "bytes": 4 * _LIMIT, "mime_type": "text/plain", "purpose": "fine-tune"}
        upload_id = server.post("/v1/uploads", json=upload).json()["id"]
        part = server.post(f"/v1/uploads/{upload_id}/parts", files={"data": ("part", b"x" * 4 * _LIMIT)})
        assert part.status_code == 200
