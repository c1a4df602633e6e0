"""Whatever is in a file and however its form is cut on the way, the same bytes arrive; what is no form leaves nothing."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from fettle.server.errors import ApiError
from fettle.server.multipart import FormRules, ReceivedForm, received_form

BOUNDARY = "b0undary"
RULES = FormRules(file="file", fields=("purpose",), most_file_bytes=10_000, remedy="Send less.")
NEARLY_BOUNDARIES = st.sampled_from([b"\r\n--b0undar", b"\r\n--b0undary", b"--b0undary--\r\n", b"\r\n", b"\r", b"-"])
CONTENTS = st.lists(st.binary(max_size=200) | NEARLY_BOUNDARIES, min_size=1, max_size=12).map(b"".join)


def form(content: bytes, *, file_first: bool, boundary: str = BOUNDARY, filename: str = "a.jsonl") -> bytes:
    disposition = f'Content-Disposition: form-data; name="file"; filename="{filename}"'
    file = f"{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode() + content
    purpose = b'Content-Disposition: form-data; name="purpose"\r\n\r\nfine-tune'
    parts = [file, purpose] if file_first else [purpose, file]
    start = f"--{boundary}\r\n".encode()
    return b"".join(start + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


def request(pieces: list[bytes], *, hangs_up: bool = False, content_type: str | None = None) -> Request:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.disconnect"} if hangs_up else {"type": "http.request", "body": b""})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    kind = content_type or f"multipart/form-data; boundary={BOUNDARY}"
    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}, receive)


def received(sent: Request, rules: FormRules = RULES) -> tuple[ReceivedForm, bytes]:
    """The form and the file's bytes; nothing is left on the disk, whatever happens."""
    with tempfile.TemporaryDirectory() as folder:

        async def receive() -> tuple[ReceivedForm, bytes]:
            async with received_form(sent, Path(folder) / "incoming", rules) as found:
                return found, found.content.read_bytes()

        try:
            return asyncio.run(receive())
        finally:
            assert list(Path(folder).iterdir()) == []


def cut(body: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(body) + 1) for place in places} | {len(body)})
    return [body[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(content=CONTENTS, file_first=st.booleans(), places=st.lists(st.integers(min_value=0), max_size=8))
def test_the_same_bytes_arrive_however_they_are_cut(content: bytes, file_first: bool, places: list[int]) -> None:
    boundary = "b0undary-" + hashlib.sha256(content).hexdigest()  # as clients choose one that is not in the content
    body = form(content, file_first=file_first, boundary=boundary)
    sent = request(cut(body, places), content_type=f'multipart/form-data; boundary="{boundary}"')
    if not content:
        with pytest.raises(ApiError, match="is empty"):
            received(sent)
        return
    found, arrived = received(sent)
    assert arrived == content
    assert (found.num_bytes, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert found.fields == {"purpose": "fine-tune"}
    assert found.filename == "a.jsonl"


@given(filename=st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n\0'), min_size=1, max_size=80))
def test_a_name_arrives_as_it_was_sent_in_any_script(filename: str) -> None:
    if filename.strip() != filename or ";" in filename or filename[1:3] == ":\\":
        return
    found, _ = received(request([form(b"x", file_first=True, filename=filename)]))
    assert found.filename == filename


@given(body=st.binary(max_size=300) | CONTENTS)
def test_what_is_no_form_is_refused_and_leaves_nothing(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        received(request([b"--" + body]))
    assert caught.value.status == 400


@given(data=st.data())
def test_a_form_that_was_damaged_on_the_way_is_refused_or_arrives_and_never_fails_otherwise(
    data: st.DataObject,
) -> None:
    body = bytearray(form(b'{"a": 1}\n', file_first=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    refused = None
    try:
        received(request([bytes(body)]))
    except ApiError as error:
        refused = error
    assert refused is None or refused.status == 400


@given(num_kept=st.integers(min_value=0, max_value=200), hangs_up=st.booleans())
def test_a_form_that_ends_too_early_is_refused(num_kept: int, hangs_up: bool) -> None:
    whole = form(b"x" * 50, file_first=False)
    pieces = [whole[: min(num_kept, len(whole) - 5)]]
    with pytest.raises(ApiError) as caught:
        received(request(pieces, hangs_up=hangs_up))
    assert caught.value.status == 400


@pytest.mark.parametrize("length", [None, "11000000"])
def test_a_file_that_is_too_large_is_refused_with_the_limit_and_what_to_do(length: str | None) -> None:
    body = form(b"x" * 10_001, file_first=True)
    sent = request([] if length else cut(body, list(range(0, 10_000, 100))))
    if length:
        sent.scope["headers"].append((b"content-length", length.encode()))
    with pytest.raises(ApiError, match=r"10000 bytes.*Send less") as caught:
        received(sent)
    assert caught.value.status == 413


def test_what_comes_without_end_around_the_file_is_refused_too() -> None:
    endless = [form(b"x", file_first=True), *[b"epilogue" * 10_000] * 20]
    with pytest.raises(ApiError) as caught:
        received(request(endless))
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (b'Content-Disposition: form-data; name="colour"\r\n\r\nred', "colour"),
        (b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch', "purpose"),
        (b'Content-Disposition: form-data; name="file"; filename="b"\r\n\r\nx', "file"),
        (b"Content-Disposition: form-data\r\n\r\nred", None),
        (b"X: y\r\n\r\nred", None),
    ],
)
def test_fields_that_are_unknown_or_come_twice_are_refused_by_name(part: bytes, param: str | None) -> None:
    body = form(b"x", file_first=True).replace(b"--b0undary--", b"--b0undary\r\n" + part + b"\r\n--b0undary--")
    with pytest.raises(ApiError) as caught:
        received(request([body]))
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/mixed; boundary=b", ";", "é"])
def test_another_content_type_is_refused(kind: str) -> None:
    with pytest.raises(ApiError, match="multipart/form-data"):
        received(request([form(b"x", file_first=True)], content_type=kind))
