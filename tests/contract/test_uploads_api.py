"""Files in parts, by the official client."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from api_server import RunningServer

MEGABYTE = 1 << 20
UNKNOWN = "upload_" + "a" * 24


def announced(client: openai.OpenAI, num_bytes: int, **options: Any) -> Any:
    wanted = {"filename": "rows.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"} | options
    return client.uploads.create(bytes=num_bytes, **wanted)


def part(client: openai.OpenAI, upload: Any, content: bytes) -> str:
    return client.uploads.parts.create(upload.id, data=content).id


def test_the_clients_own_helper_sends_a_file_in_parts(idle_client: openai.OpenAI, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(3 * MEGABYTE + 17)
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    md5 = hashlib.md5(content).hexdigest()
    upload = idle_client.uploads.upload_file_chunked(
        file=file, mime_type="text/jsonl", purpose="fine-tune", part_size=MEGABYTE, md5=md5
    )
    assert (upload.status, upload.bytes, upload.expires_at) == ("completed", len(content), upload.created_at + 3600)
    assert upload.file is not None
    assert (upload.file.bytes, upload.file.filename, upload.file.status) == (len(content), "rows.jsonl", "processed")
    assert idle_client.files.content(upload.file.id).read() == content
    assert [found.id for found in idle_client.files.list()] == [upload.file.id]


def test_parts_may_come_in_parallel_and_in_any_order(idle_client: openai.OpenAI) -> None:
    pieces = [bytes([number]) * 100_000 for number in range(12)]
    upload = announced(idle_client, sum(map(len, pieces)), expires_after={"anchor": "created_at", "seconds": 7200})
    assert (upload.object, upload.status, upload.file) == ("upload", "pending", None)
    with ThreadPoolExecutor(12) as threads:
        backwards = list(threads.map(lambda piece: part(idle_client, upload, piece), reversed(pieces)))
    done = idle_client.uploads.complete(upload.id, part_ids=backwards[::-1])
    assert done.file is not None
    assert done.file.expires_at == done.file.created_at + 7200
    assert idle_client.files.content(done.file.id).read() == b"".join(pieces)


def test_a_part_says_what_it_is(idle_client: openai.OpenAI) -> None:
    upload = announced(idle_client, 3)
    made = idle_client.uploads.parts.create(upload.id, data=b"abc")
    assert (made.object, made.upload_id, made.id[:5]) == ("upload.part", upload.id, "part_")


def test_completed_twice_at_once_it_is_one_file(raw: httpx2.Client) -> None:
    body = {"filename": "a", "bytes": 3, "mime_type": "text/jsonl", "purpose": "fine-tune"}
    upload_id = raw.post("uploads", json=body).json()["id"]
    part_id = raw.post(f"uploads/{upload_id}/parts", files={"data": ("a", b"abc")}).json()["id"]

    def complete(_: int) -> httpx2.Response:
        return raw.post(f"uploads/{upload_id}/complete", json={"part_ids": [part_id]})

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(complete, range(4)))
    files = {answer.json()["file"]["id"] for answer in answers if answer.status_code == 200}
    assert {file["id"] for file in raw.get("files").json()["data"]} == files
    assert len(files) == 1
    for answer in answers:  # one that comes after another was answered is too late
        assert answer.status_code == 200 or "is completed" in answer.json()["error"]["message"]


def test_what_differs_from_what_was_announced_is_refused_and_may_be_tried_again(idle_client: openai.OpenAI) -> None:
    upload = announced(idle_client, 6)
    first, second = part(idle_client, upload, b"abc"), part(idle_client, upload, b"def")
    wrong: list[dict[str, Any]] = [
        {"part_ids": [first]},
        {"part_ids": [first, "part_" + "a" * 24]},
        {"part_ids": [first, second], "md5": "0" * 32},
        {"part_ids": [first, first]},
        {"part_ids": []},
    ]
    for options in wrong:
        with pytest.raises(openai.BadRequestError):
            idle_client.uploads.complete(upload.id, **options)
    md5 = hashlib.md5(b"abcdef").hexdigest()
    assert idle_client.uploads.complete(upload.id, part_ids=[first, second], md5=md5).status == "completed"
    for attempt in (
        lambda: idle_client.uploads.complete(upload.id, part_ids=[first, second]),
        lambda: idle_client.uploads.cancel(upload.id),
        lambda: part(idle_client, upload, b"abc"),
    ):
        with pytest.raises(openai.BadRequestError, match="is completed"):
            attempt()


def test_a_cancelled_upload_is_over(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    upload = announced(idle_client, 3)
    made = part(idle_client, upload, b"abc")
    assert (idle_server.home / "files" / made).exists()
    assert idle_client.uploads.cancel(upload.id).status == "cancelled"
    assert not (idle_server.home / "files" / made).exists()
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        idle_client.uploads.complete(upload.id, part_ids=[made])


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": (8 << 30) + 1}, "bytes"),
        ({"bytes": 1.5}, "bytes"),
        ({"bytes": "6"}, "bytes"),
        ({"purpose": "fun"}, "purpose"),
        ({"filename": ""}, "filename"),
        ({"filename": "a\0b"}, "filename"),
        ({"mime_type": 1}, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_announcements_that_cannot_be_are_refused(raw: httpx2.Client, changed: dict[str, Any], param: str) -> None:
    body = {"filename": "a", "bytes": 6, "mime_type": "text/jsonl", "purpose": "fine-tune"} | changed
    answer = raw.post("uploads", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_parts_that_cannot_be_are_refused(raw: httpx2.Client) -> None:
    body = {"filename": "a", "bytes": 8 << 30, "mime_type": "text/jsonl", "purpose": "fine-tune"}
    place = f"uploads/{raw.post('uploads', json=body).json()['id']}/parts"
    assert raw.post(place, files={"data": ("a", b"")}).status_code == 400
    assert raw.post(place, files={"file": ("a", b"x")}).json()["error"]["code"] == "unknown_parameter"
    assert raw.post(place, json={"data": "x"}).status_code == 400
    too_large = raw.post(place, files={"data": ("a", bytes((64 << 20) + 1))})
    assert too_large.status_code == 413
    assert "64 MB" in too_large.json()["error"]["message"]


def test_unknown_uploads_and_those_of_other_projects_are_not_there(
    idle_server: RunningServer, new_client: Callable[[RunningServer], openai.OpenAI]
) -> None:
    owner, other = new_client(idle_server), new_client(idle_server)
    for upload_id in (UNKNOWN, announced(owner, 3).id):
        for ask in (
            lambda upload_id: other.uploads.parts.create(upload_id, data=b"abc"),
            lambda upload_id: other.uploads.complete(upload_id, part_ids=["part_1"]),
            other.uploads.cancel,
        ):
            with pytest.raises(openai.NotFoundError, match=f"No such Upload object: {upload_id}"):
                ask(upload_id)
