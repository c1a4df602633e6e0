"""Forms with one file in them (`multipart/form-data`), written to disk as they come in and never held in memory whole.

The file may come before or after the other fields. Whatever goes wrong, and where the client hangs up, nothing is left on the disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from fettle.server.errors import ApiError, disk_faults_are_ours, invalid

UNBOUNDED = 1 << 62
"""`max_body_size` of routes that read a form by `received_form`, which has a bound of its own."""
_BLOCK_BYTES = 1 << 20
_MOST_FIELD_BYTES = 8192
_MOST_BYTES_AROUND = 1 << 20  # of a form, beside the content of its file
_MOST_NAME_LENGTH = 1024
_NAMELESS = "upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormRules:
    """What a form may hold."""

    file: str
    """The field of the file, which has to be there."""
    fields: tuple[str, ...] = ()
    """Other fields, each at most once."""
    most_file_bytes: int
    remedy: str
    """What to do with a file that is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedForm:
    """A form that has come in whole."""

    fields: dict[str, str]
    content: Path
    """The file's bytes, synced. Whoever wants to keep them gives them another name."""
    filename: str
    """As the client calls it."""
    num_bytes: int
    sha256: str


@asynccontextmanager
async def received_form(request: Request, place: Path, rules: FormRules) -> AsyncIterator[ReceivedForm]:
    """A request's form, its file written to `place`, which is removed in the end unless it was given another name.

    Raises:
        ApiError: It is no form, not whole, or not as the rules say.
        ResourceError: The disk is full or cannot be written.
    """
    boundary = _boundary(request.headers.get("content-type"))
    _refuse_large(request.headers.get("content-length", ""), rules)
    with disk_faults_are_ours(place):
        writer = _FormWriter(boundary, place, rules)
        try:
            async for block in _blocks(request, rules):
                await run_in_threadpool(writer.write, block)
            yield await run_in_threadpool(writer.finish)
        except ClientDisconnect:
            raise ApiError("The connection was closed before the form was whole.") from None
        finally:
            writer.close()
            place.unlink(missing_ok=True)


def _boundary(content_type: str | None) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        shown = "none is given" if content_type is None else f"it is {content_type[:100]!r}"
        raise ApiError(f"Expected the content type 'multipart/form-data' with a boundary, and {shown}.")
    return options[b"boundary"]


def _refuse_large(content_length: str, rules: FormRules) -> None:
    if content_length.isdigit() and int(content_length) > rules.most_file_bytes + _MOST_BYTES_AROUND:
        raise _too_large(rules)


def _too_large(rules: FormRules) -> ApiError:
    most = rules.most_file_bytes
    message = f"`{rules.file}` is larger than the {most >> 20} MB ({most} bytes) that one request takes. {rules.remedy}"
    return ApiError(message, status=413, param=rules.file)


async def _blocks(request: Request, rules: FormRules) -> AsyncIterator[bytes]:
    """The body in blocks of about a megabyte: each is written in a thread, and changing threads costs time."""
    waiting, num_bytes = bytearray(), 0
    async for piece in request.stream():
        num_bytes += len(piece)
        if num_bytes > rules.most_file_bytes + _MOST_BYTES_AROUND:
            raise _too_large(rules)
        waiting += piece
        if len(waiting) >= _BLOCK_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


@dataclass(slots=True)
class _Part:
    """The part of the form that is coming in."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    header_name: bytes = b""
    header_value: bytes = b""
    name: str = ""
    text: bytearray = field(default_factory=bytearray)


class _FormWriter:
    """Takes the body of a form block by block; its file goes to the disk."""

    def __init__(self, boundary: bytes, place: Path, rules: FormRules) -> None:
        self._rules, self._place = rules, place
        self._part, self._fields, self._filename = _Part(), dict[str, str](), ""
        self._file = place.open("xb")
        self._num_bytes, self._hash = 0, hashlib.sha256()
        self._has_file = self._is_whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._take_header_name,
                "on_header_value": self._take_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take_content,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def write(self, block: bytes) -> None:
        """Take the next part of the body."""
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise ApiError(f"The body of your request is no form with the boundary it names: {error}.") from error

    def finish(self) -> ReceivedForm:
        """The form, its file synced.

        Raises:
            ApiError: It is not whole, or has no file, or an empty one.
        """
        if not self._is_whole:
            raise ApiError("The body of your request ended before the form was whole.")
        name = self._rules.file
        if not self._has_file:
            raise ApiError(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
        if not self._num_bytes:
            raise invalid(f"`{name}` is empty: {self._filename!r} holds no bytes.", name)
        self._file.flush()
        os.fsync(self._file.fileno())
        return ReceivedForm(
            fields=self._fields,
            content=self._place,
            filename=self._filename,
            num_bytes=self._num_bytes,
            sha256=self._hash.hexdigest(),
        )

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _begin_part(self) -> None:
        self._part = _Part()

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def _end_header(self) -> None:
        part = self._part
        part.headers[part.header_name.lower()] = part.header_value
        part.header_name = part.header_value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._part.headers.get(b"content-disposition"))
        if b"name" not in options:
            raise ApiError("A part of the form has no name.")
        name = self._part.name = _text(options[b"name"], "a name in the form")
        if name == self._rules.file:
            if self._has_file:
                raise invalid(f"`{name}` is given twice.", name)
            self._has_file = True
            self._filename = _text(options.get(b"filename", b""), "filename") or _NAMELESS
            if len(self._filename) > _MOST_NAME_LENGTH:
                raise invalid(f"The file's name is longer than {_MOST_NAME_LENGTH} characters.", name)
        elif name not in self._rules.fields:
            raise ApiError(f"Unknown parameter: '{name[:100]}'.", param=name[:100], code="unknown_parameter")
        elif name in self._fields:
            raise invalid(f"`{name}` is given twice.", name)

    def _take_content(self, data: bytes, start: int, end: int) -> None:
        if self._part.name == self._rules.file:
            self._num_bytes += end - start
            if self._num_bytes > self._rules.most_file_bytes:
                raise _too_large(self._rules)
            content = memoryview(data)[start:end]
            self._file.write(content)
            self._hash.update(content)
            return
        self._part.text += data[start:end]
        if len(self._part.text) > _MOST_FIELD_BYTES:
            raise invalid(f"`{self._part.name}` is longer than {_MOST_FIELD_BYTES} bytes.", self._part.name)

    def _end_part(self) -> None:
        name = self._part.name
        if name != self._rules.file:
            self._fields[name] = _text(bytes(self._part.text), name)

    def _end(self) -> None:
        self._is_whole = True


def _text(content: bytes, name: str) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise invalid(f"`{name}` is not UTF-8.", name) from None
    if "\0" in text:
        raise invalid(f"`{name}` holds a NUL character.", name)
    return text
