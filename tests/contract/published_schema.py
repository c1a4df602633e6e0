"""Holds every answer against OpenAI's published description of its API, below the official client.

The description is no part of this repository. It lies in `shared/spec/` beside a checkout, or where FETTLE_TEST_OPENAI_SCHEMA says;
where it is missing, answers are held against the rules that need no description (`fettle.server` promises them in any case).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

import httpx2
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

_PLACES = [Path(os.environ[name]) for name in ("FETTLE_TEST_OPENAI_SCHEMA",) if name in os.environ]
_PLACES += [parent / "shared/spec/openai_fine_tuning.json" for parent in Path(__file__).resolve().parents]
SCHEMA_FILE = next((place for place in _PLACES if place.is_file()), None)
_URI = "urn:openai"
_TIMES = frozenset({"created", "created_at", "finished_at", "expires_at", "estimated_finish", "started_at"})
_NULL_UNLESS_SET = re.compile(r"\$(\.data\[\d+\])?(\.sample)?\.error|\$\.(first|last)_id")
"""Null with us where there is nothing: errors of evals (as in the description's examples), ids of an empty page."""
_ERROR_KEYS = {"message", "type", "param", "code"}


class UnfitAnswerError(AssertionError):
    """An answer is not what a client of OpenAI's API may expect."""


class CheckedTransport(httpx2.BaseTransport):
    """A transport that lets no answer through which does not fit; streams are read as they come, and checked at their end."""

    def __init__(self) -> None:
        self._inner = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._inner.handle_request(request)
        kind = response.headers.get("content-type", "").split(";")[0]
        place = f"{request.method} {request.url.path}: {response.status_code}"
        if not response.headers.get("x-request-id"):
            raise UnfitAnswerError(f"{place} has no x-request-id")
        if kind == "text/event-stream":
            assert isinstance(response.stream, httpx2.SyncByteStream)
            response.stream = _CheckedStream(
                response.stream, lambda body: _check_events(request.method, request.url.path, body)
            )
        elif kind == "application/json" or not response.is_success:
            check_answer(request.method, request.url.path, response.status_code, response.read())
        return response

    def close(self) -> None:
        self._inner.close()


class _CheckedStream(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, check: Callable[[bytes], None]) -> None:
        self._inner, self._check = inner, check

    def __iter__(self) -> Iterator[bytes]:
        parts = []
        for part in self._inner:
            parts.append(part)
            yield part
        self._check(b"".join(parts))

    def close(self) -> None:
        self._inner.close()


def check_answer(method: str, path: str, status: int, body: bytes, kind: str = "application/json") -> None:
    """See that a JSON body is strict JSON and fits.

    Raises:
        UnfitAnswerError: It does not; the message says where.
    """
    place = f"{method} {path}: {status}"
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except ValueError as error:
        raise UnfitAnswerError(f"{place}: the body is not strict JSON ({error}): {body[:200]!r}") from error
    if status >= 400:
        _check_error(place, value)
        return
    _check_times(place, value)
    for error in _errors(path, method, str(status), kind, value):
        raise UnfitAnswerError(f"{place}: {error}")


def _check_events(method: str, path: str, body: bytes) -> None:
    for block in body.decode().split("\n\n"):
        data = "\n".join(line[5:].lstrip() for line in block.splitlines() if line.startswith("data:"))
        if not data or data == "[DONE]":
            continue
        is_error = isinstance(json.loads(data), dict) and "error" in json.loads(data)
        check_answer(method, path, 500 if is_error else 200, data.encode(), kind="text/event-stream")


def _check_error(place: str, value: Any) -> None:
    if not isinstance(value, dict) or set(value) != {"error"} or set(value["error"]) != _ERROR_KEYS:
        raise UnfitAnswerError(f"{place}: no error as OpenAI's clients know it: {value!r}")
    error = value["error"]
    if not (isinstance(error["message"], str) and error["message"] and isinstance(error["type"], str)):
        raise UnfitAnswerError(f"{place}: an error without message or type: {value!r}")
    if "Traceback" in error["message"] or "sk-fettle" in error["message"]:
        raise UnfitAnswerError(f"{place}: the message tells too much: {error['message']}")


def _check_times(place: str, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_times(place, item)
    if isinstance(value, dict):
        for name, item in value.items():
            if name in _TIMES and isinstance(item, float):
                raise UnfitAnswerError(f"{place}: `{name}` is {item!r}, and clients read whole seconds")
            _check_times(place, item)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _errors(path: str, method: str, status: str, kind: str, value: Any) -> Iterator[str]:
    validator = _validator(_template(path) or "", method.lower(), status, kind)
    for error in () if validator is None else validator.iter_errors(value):
        if error.instance is None and _NULL_UNLESS_SET.fullmatch(error.json_path):
            continue
        yield f"{error.json_path}: {error.message[:500]}"


@lru_cache(maxsize=1)
def _document() -> dict[str, Any]:
    return {"paths": {}} if SCHEMA_FILE is None else json.loads(SCHEMA_FILE.read_bytes())


@lru_cache(maxsize=256)
def _template(path: str) -> str | None:
    """The described path that a request's path means; None: it is one of ours alone."""
    asked = path.removeprefix("/v1")
    for template in sorted(_document()["paths"], key=lambda name: name.count("{")):
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, asked) or re.fullmatch(pattern, unquote(asked)):
            return template
    return None


@lru_cache(maxsize=256)
def _validator(template: str, method: str, status: str, kind: str) -> Draft202012Validator | None:
    answers = _document()["paths"].get(template, {}).get(method, {}).get("responses", {})
    if status not in answers or kind not in answers[status].get("content", {}):
        if answers:
            raise UnfitAnswerError(f"{method.upper()} {template}: {status} with {kind} is not what is published")
        return None
    schema = json.loads(
        json.dumps(answers[status]["content"][kind]["schema"]).replace('"#/components', f'"{_URI}#/components')
    )
    registry: Registry[Any] = Registry().with_resource(_URI, _resource())
    return Draft202012Validator(schema, registry=registry)


@lru_cache(maxsize=1)
def _resource() -> Resource[Any]:
    from referencing.jsonschema import DRAFT202012

    return DRAFT202012.create_resource(_document())
