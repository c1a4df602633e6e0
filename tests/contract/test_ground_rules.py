"""Section 1 of the contract: transport, keys, errors, ids, lists; as far as no resource has rules of its own."""

from __future__ import annotations

import json
from contextlib import suppress

import httpx2
import openai
import pytest
from api_server import RunningServer

JSON = {"content-type": "application/json"}


def refused(answer: httpx2.Response, status: int) -> dict[str, object]:
    """The error of an answer, seen to be one of `status` in the one form that errors have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "invalid_request_error"
    return body["error"]


def test_without_a_key_nothing_is_answered(idle_server: RunningServer) -> None:
    with idle_server.raw(None) as http:
        assert refused(http.get("/models"), 401)["code"] is None


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer sk-fettle-wrong", "Bearer ä", "Bearer {key} x"])
def test_a_wrong_key_opens_nothing(idle_server: RunningServer, header: str) -> None:
    key = idle_server.new_key("wrong")
    with idle_server.raw(None) as http:
        answer = http.get("/models", headers={"Authorization": header.format(key=key).encode()})
    error = refused(answer, 401)
    assert error["code"] == "invalid_api_key"
    assert "sk-fettle" not in str(error["message"])


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_of_a_key_is_read_in_any_case(idle_server: RunningServer, scheme: str) -> None:
    key = idle_server.new_key("scheme")
    with idle_server.raw(None) as http:
        assert http.get("/models", headers={"Authorization": f"{scheme} {key}"}).status_code == 200


def test_a_key_of_another_scheme_is_none(idle_server: RunningServer) -> None:
    with idle_server.raw(None) as http:
        refused(http.get("/models", headers={"Authorization": f"Basic {idle_server.new_key('basic')}"}), 401)


def test_every_answer_has_an_id_of_its_own(raw: httpx2.Client) -> None:
    answers = [raw.get("/models"), raw.get("/models"), raw.get("/nothing"), raw.post("/fine_tuning/jobs", json={})]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


def test_headers_of_openais_clients_are_taken(raw: httpx2.Client) -> None:
    headers = {"OpenAI-Organization": "org-x", "OpenAI-Project": "proj_x", "OpenAI-Beta": "assistants=v2"}
    headers |= {"X-Stainless-Lang": "js", "X-Stainless-Retry-Count": "1", "Idempotency-Key": "x"}
    assert raw.get("/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/fine_tuning/jobs/", "/files/a/b", "/batches", "/moderations", "/assistants", "/completions"],
)
def test_an_unknown_route_is_404(raw: httpx2.Client, path: str) -> None:
    error = refused(raw.post(path, json={}), 404)
    assert error["message"] == f"Invalid URL (POST /v1{path})"
    assert error["code"] is None


@pytest.mark.parametrize("verb", ["PUT", "PATCH", "OPTIONS", "TRACE", "DELETE", "FOO"])
def test_a_wrong_verb_is_405(raw: httpx2.Client, verb: str) -> None:
    refused(raw.request(verb, "/fine_tuning/jobs"), 405)


BODIES = {
    "empty": b"",
    "an array": b"[]",
    "null": b"null",
    "text": b"hello",
    "half": b'{"model":',
    "a number": b"1",
    "deep": b"[" * 100_000,
    "deep inside": b'{"metadata":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
    "not UTF-8": b'{"model": "\xff"}',
    "an integer of 5,000 digits": b'{"model": "tiny-chat", "training_file": "file-x", "seed": ' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_that_is_no_json_object_is_400(raw: httpx2.Client, body: bytes) -> None:
    error = refused(raw.post("/fine_tuning/jobs", content=body, headers=JSON), 400)
    assert "JSON object" in str(error["message"])


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", "", "nonsense"]
)
def test_a_body_of_another_kind_is_400(raw: httpx2.Client, kind: str) -> None:
    body = json.dumps({"model": "tiny-chat", "training_file": "file-x"})
    refused(raw.post("/fine_tuning/jobs", content=body, headers={"content-type": kind}), 400)


VALUES = {
    "NUL": {"model": "a\0b"},
    "half a surrogate pair": {"model": "\ud800"},
    "beyond 64 bits": {"seed": 2**80},
    "NaN": {"seed": float("nan")},
    "infinite": {"hyperparameters": {"learning_rate_multiplier": float("inf")}},
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_a_value_that_no_database_keeps_is_400_and_named(raw: httpx2.Client, values: dict[str, object]) -> None:
    body = json.dumps({"model": "tiny-chat", "training_file": "file-x"} | values)
    error = refused(raw.post("/fine_tuning/jobs", content=body, headers=JSON), 400)
    assert str(error["param"]).startswith(next(iter(values)))


HALF = "\ud800"
ECHOES = {
    "an unknown field": ("/fine_tuning/jobs", {"model": "tiny-chat", "training_file": "file-x", HALF: 1}),
    "a key of metadata": (
        "/fine_tuning/jobs",
        {"model": "tiny-chat", "training_file": "file-x", "metadata": {HALF: 1}},
    ),
    "a chosen tool": (
        "/chat/completions",
        {
            "model": "tiny-chat",
            "messages": [{"role": "user", "content": "a"}],
            "tools": [{"type": "function", "function": {"name": "seats"}}],
            "tool_choice": {"type": "function", "function": {"name": HALF}},
        },
    ),
}


@pytest.mark.parametrize(("path", "body"), ECHOES.values(), ids=ECHOES.keys())
def test_a_refusal_that_repeats_half_a_surrogate_pair_is_text(raw: httpx2.Client, path: str, body: object) -> None:
    assert refused(raw.post(path, content=json.dumps(body), headers=JSON), 400)["message"]


def test_a_byte_order_mark_before_a_body_is_harmless(raw: httpx2.Client) -> None:
    error = refused(raw.post("/fine_tuning/jobs", content=b'\xef\xbb\xbf{"model": "tiny-chat"}', headers=JSON), 400)
    assert error["param"] == "training_file"


JOB_IDS = ("a%00b", "%ff%fe", "%ED%A0%80", "..%2F..%2Fetc%2Fpasswd", "%2e%2e", "a%2Fb", "x" * 5_000, "%20", "'%22;--")
PATHS = ("/fine_tuning/jobs/{}", "/fine_tuning/jobs/{}/events", "/models/{}", "/files/{}", "/files/{}/content")


@pytest.mark.parametrize("job_id", JOB_IDS)
@pytest.mark.parametrize("path", PATHS)
def test_an_id_that_cannot_be_is_an_ordinary_404(raw: httpx2.Client, path: str, job_id: str) -> None:
    answer = raw.get(path.format(job_id))
    refused(answer, 404)
    assert len(answer.content) < 4_000


@pytest.mark.parametrize("limit", ["0", "-1", "101", "many", "", "1.5", "99999999999999999999", "1e1", "%00", "NaN"])
def test_a_limit_that_cannot_be_is_400(raw: httpx2.Client, limit: str) -> None:
    assert refused(raw.get(f"/fine_tuning/jobs?limit={limit}"), 400)["param"] == "limit"


@pytest.mark.parametrize("after", ["ftjob-nothing", "", "%00", "x" * 5_000, "%ff"])
def test_a_page_after_nothing_known_is_400(raw: httpx2.Client, after: str) -> None:
    assert refused(raw.get(f"/fine_tuning/jobs?after={after}"), 400)["param"] == "after"


def test_headers_that_are_too_large_harm_nobody_else(raw: httpx2.Client) -> None:
    with suppress(httpx2.TransportError):  # the server may hang up while they are still being sent
        assert raw.get("/models", headers={"x-large": "x" * 200_000}).status_code in (200, 400, 431)
    assert raw.get("/models").status_code == 200


def test_the_sdk_raises_its_own_error_with_the_words_of_ours(idle_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        idle_client.fine_tuning.jobs.retrieve("ftjob-nothing")
    assert caught.value.code == "fine_tune_not_found"
    assert "Could not find fine tune: ftjob-nothing" in caught.value.message
    assert caught.value.request_id
