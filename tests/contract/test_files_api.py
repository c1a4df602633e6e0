"""Files, by the official client and by raw HTTP where it has no words for it."""

from __future__ import annotations

import hashlib
import io
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from api_server import RunningServer
from training_files import cancel_or_ended

ROWS = b'{"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}]}\r\n'
UNKNOWN = "file-" + "a" * 24


def sent(client: openai.OpenAI, content: bytes = ROWS, name: str = "rows.jsonl", **options: Any) -> Any:
    return client.files.create(file=(name, io.BytesIO(content)), **{"purpose": "fine-tune"} | options)


def contents(server: RunningServer) -> set[str]:
    folder = server.home / "files"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def refusal(response: httpx2.Response) -> dict[str, Any]:
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_a_file_is_sent_shown_listed_read_and_deleted(idle_client: openai.OpenAI) -> None:
    file = sent(idle_client)
    assert (file.bytes, file.filename, file.purpose, file.status) == (len(ROWS), "rows.jsonl", "fine-tune", "processed")
    assert (file.object, file.expires_at, file.status_details) == ("file", None, None)
    assert idle_client.files.retrieve(file.id) == file
    assert idle_client.files.wait_for_processing(file.id).status == "processed"
    assert [found.id for found in idle_client.files.list()] == [file.id]
    assert idle_client.files.content(file.id).read() == ROWS
    assert idle_client.files.delete(file.id).deleted is True
    for ask in (idle_client.files.retrieve, idle_client.files.content, idle_client.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}"):
            ask(file.id)


@pytest.mark.parametrize("purpose", ["fine-tune", "user_data", "evals", "batch", "assistants", "vision"])
def test_every_purpose_is_taken_and_filters(idle_client: openai.OpenAI, purpose: Any) -> None:
    file = sent(idle_client, purpose=purpose)
    assert [found.id for found in idle_client.files.list(purpose=purpose)] == [file.id]
    assert list(idle_client.files.list(purpose="fine-tune-results")) == []


def test_every_byte_comes_back(idle_client: openai.OpenAI) -> None:
    content = bytes(range(256)) * 20_000 + b"\r\n--boundary\r\n"
    assert idle_client.files.content(sent(idle_client, content).id).read() == content


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "größer und 数据 🚚.jsonl", 'with "quotes".jsonl', "a;b=c"])
def test_a_name_is_a_label(idle_client: openai.OpenAI, idle_server: RunningServer, name: str) -> None:
    before = contents(idle_server)
    file = sent(idle_client, name=name)
    # Clients write a quotation mark as %22 in a form, as browsers do; nobody can tell it from a name that has a %22.
    assert file.filename == name.replace('"', "%22")
    assert contents(idle_server) - before == {file.id}
    answer = idle_client.files.content(file.id)
    assert answer.read() == ROWS
    assert answer.response.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")


def test_pages_neither_repeat_nor_lose_a_file(idle_client: openai.OpenAI) -> None:
    made = [sent(idle_client, name=f"{number}").id for number in range(7)]
    first = idle_client.files.list(limit=3)
    assert (first.first_id, first.last_id, first.has_more) == (made[-1], made[-3], True)  # type: ignore[attr-defined]
    sent(idle_client, name="meanwhile")
    pages = [first.data, *(page.data for page in list(first.iter_pages())[1:])]
    assert [file.id for page in pages for file in page] == made[::-1]
    assert [file.id for file in idle_client.files.list(limit=2, order="asc")][:7] == made


def test_an_empty_list_has_no_first_and_last(idle_client: openai.OpenAI) -> None:
    page = idle_client.files.list()
    assert (page.data, page.has_more, page.first_id, page.last_id) == ([], False, None, None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "order=up", f"after={UNKNOWN}"])
def test_pages_that_cannot_be_are_refused(raw: httpx2.Client, query: str) -> None:
    answer = raw.get(f"files?{query}")
    assert answer.status_code == 400
    assert refusal(answer)["param"] == query.split("=")[0]


def test_a_file_says_when_it_expires(idle_client: openai.OpenAI) -> None:
    file = sent(idle_client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600


@pytest.mark.parametrize(
    ("expires_after", "param"),
    [
        ({"anchor": "created_at", "seconds": 3599}, "expires_after.seconds"),
        ({"anchor": "created_at", "seconds": 2_592_001}, "expires_after.seconds"),
        ({"anchor": "last_active_at", "seconds": 3600}, "expires_after.anchor"),
        ({"anchor": "created_at", "seconds": "soon"}, "expires_after.seconds"),
        ({"seconds": 3600}, "expires_after.anchor"),
    ],
)
def test_an_expiry_that_cannot_be_is_refused(idle_client: openai.OpenAI, expires_after: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sent(idle_client, expires_after=expires_after)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("form", "param", "code"),
    [
        ({"files": {"file": ("a", b"x")}}, "purpose", "missing_required_parameter"),
        ({"files": {"file": ("a", b"x")}, "data": {"purpose": "fun"}}, "purpose", "invalid_value"),
        ({"files": {"file": ("a", b"x")}, "data": {"purpose": "fine-tune-results"}}, "purpose", "invalid_value"),
        ({"files": {"file": ("a", b"")}, "data": {"purpose": "fine-tune"}}, "file", "invalid_value"),
        ({"files": {"purpose": (None, b"fine-tune")}}, "file", "missing_required_parameter"),
        ({"files": {"file": ("a", b"x")}, "data": {"purpose": "fine-tune", "x": "y"}}, "x", "unknown_parameter"),
        ({"json": {"file": "a", "purpose": "fine-tune"}}, None, None),
        ({"content": b"file=a&purpose=fine-tune"}, None, None),
        ({}, None, None),
    ],
)
def test_what_is_no_file_with_a_purpose_is_refused_and_leaves_nothing(
    raw: httpx2.Client, idle_server: RunningServer, form: dict[str, Any], param: str | None, code: str | None
) -> None:
    before = contents(idle_server)
    answer = raw.post("files", **form)
    assert answer.status_code == 400
    assert (refusal(answer)["param"], refusal(answer)["code"]) == (param, code)
    assert contents(idle_server) == before


def test_a_file_may_be_larger_than_any_other_body(raw: httpx2.Client) -> None:
    content = bytes(40 << 20)
    answer = raw.post("files", files={"file": ("a", content)}, data={"purpose": "batch"})
    assert (answer.status_code, answer.json()["bytes"]) == (200, len(content))
    assert raw.delete(f"files/{answer.json()['id']}").status_code == 200


def test_a_file_that_is_too_large_is_refused_before_it_has_come_in(raw: httpx2.Client) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b", "content-length": str(600 << 20)}
    host = urlsplit(str(raw.base_url))
    with socket.create_connection((host.hostname or "", host.port or 0)) as connection:
        lines = ["POST /v1/files HTTP/1.1", f"host: {host.netloc}", f"authorization: {raw.headers['authorization']}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join([*lines, "", "--b\r\n"]).encode())
        answer = HTTPResponse(connection)
        answer.begin()
        text = answer.read().decode()
    assert answer.status == 413
    assert "512 MB" in text
    assert "/v1/uploads" in text


@pytest.mark.parametrize(
    "file_id", [UNKNOWN, "..%2F..%2Fetc%2Fpasswd", "fettle.sqlite", ".incoming-x", "%00", "a" * 3000]
)
def test_ids_are_looked_up_and_never_paths(raw: httpx2.Client, file_id: str) -> None:
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        answer = raw.request(method, f"files/{file_id}{path}")
        assert answer.status_code == 404
        refusal(answer)


def test_the_javascript_client_sends_the_file_first_and_in_chunks(raw: httpx2.Client) -> None:
    def body() -> Iterator[bytes]:
        yield b'--x1\r\nContent-Disposition: form-data; name="file"; filename="r\xc3\xb6ws.jsonl"\r\n'
        yield b"Content-Type: application/octet-stream\r\n\r\n"
        yield from (ROWS[start : start + 7] for start in range(0, len(ROWS), 7))
        yield b'\r\n--x1\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-'
        yield b'tune\r\n--x1\r\nContent-Disposition: form-data; name="expires_after[anchor]"\r\n\r\ncreated_at'
        yield b'\r\n--x1\r\nContent-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n86400\r\n--x1--\r\n'

    answer = raw.post("files", content=body(), headers={"content-type": "multipart/form-data; boundary=x1"})
    assert answer.request.headers["transfer-encoding"] == "chunked"
    file = answer.json()
    assert (answer.status_code, file["filename"], file["bytes"]) == (200, "röws.jsonl", len(ROWS))
    assert file["expires_at"] == file["created_at"] + 86400
    assert raw.get(f"files/{file['id']}/content").content == ROWS


def test_a_client_that_hangs_up_leaves_nothing(raw: httpx2.Client, idle_server: RunningServer) -> None:
    before = contents(idle_server)
    host = urlsplit(idle_server.url)
    with socket.create_connection((host.hostname or "", host.port or 0)) as connection:
        lines = ["POST /v1/files HTTP/1.1", f"host: {host.netloc}", f"authorization: {raw.headers['authorization']}"]
        lines += ["content-type: multipart/form-data; boundary=b", "content-length: 5000000", "", ""]
        start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        connection.sendall("\r\n".join(lines).encode() + start + b"x" * (2 << 20))
        while not contents(idle_server) - before:
            assert raw.get("files").status_code == 200  # the server answers others meanwhile
    while contents(idle_server) != before:
        assert raw.get("files").json()["data"] == []


def test_twenty_files_at_once_arrive_each_with_its_own_bytes(idle_client: openai.OpenAI) -> None:
    made = {str(number): bytes([number]) * (200_000 + number) for number in range(20)}

    def send(name: str) -> str:
        return sent(idle_client, made[name], name).id

    with ThreadPoolExecutor(20) as threads:
        ids = dict(zip(made, threads.map(send, made), strict=True))
    assert len(set(ids.values())) == 20
    for name, file_id in ids.items():
        found = idle_client.files.content(file_id).read()
        assert hashlib.sha256(found).digest() == hashlib.sha256(made[name]).digest()


def test_a_file_can_be_deleted_while_it_is_read(raw: httpx2.Client) -> None:
    content = b"x" * (8 << 20)
    file_id = raw.post("files", files={"file": ("a", content)}, data={"purpose": "batch"}).json()["id"]
    with raw.stream("GET", f"files/{file_id}/content") as answer:
        pieces = answer.iter_bytes(65536)
        read = next(pieces)
        assert raw.delete(f"files/{file_id}").status_code == 200
        assert read + b"".join(pieces) == content
    assert raw.get(f"files/{file_id}/content").status_code == 404


def test_another_project_has_no_such_file(
    idle_server: RunningServer, new_client: Callable[[RunningServer], openai.OpenAI]
) -> None:
    owner, other = new_client(idle_server), new_client(idle_server)
    file = sent(owner)
    for ask in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            ask(file.id)
    assert list(other.files.list()) == []
    assert owner.files.content(file.id).read() == ROWS


def test_a_file_that_is_deleted_once_its_job_is_created_is_missed_by_nobody(
    server: RunningServer, client: openai.OpenAI
) -> None:
    rows = b"".join(
        json.dumps(
            {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}."}]}
        ).encode()
        + b"\n"
        for n in range(12)
    )
    jobs = []
    for _ in range(3):
        file = sent(client, rows)
        jobs.append(
            client.fine_tuning.jobs.create(model=server.model, training_file=file.id, hyperparameters={"n_epochs": 1})
        )
        client.files.delete(file.id)
    for job in jobs:
        while (found := client.fine_tuning.jobs.retrieve(job.id)).status == "validating_files":
            client.models.list()
        assert found.status != "failed", found.error
        cancel_or_ended(client, job.id)
