"""Every error as OpenAI's clients know it: `{"error": {"message", "type", "param", "code"}}`, all four keys always there.

A user's mistake is never 409 or 5xx: the SDKs would send the request again. Our own faults say that they are ours, and nothing of
the server's paths or tracebacks.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY

from fettle.errors import BusyError, ConfigError, FettleError, ResourceError, disk_errors_explained, http_status
from fettle.scoring.openai_grader import InvalidGraderError
from fettle.store.attached_files import NoSuchAttachedFileError, NoSuchBatchError
from fettle.store.evals import NoSuchEvalError
from fettle.store.files import NoSuchFileError
from fettle.store.indexes import NoSuchIndexError
from fettle.store.jobs import NoSuchJobError
from fettle.store.models import NoSuchModelError, WrongModelKindError
from fettle.store.pages import UnknownPageError
from fettle.store.uploads import NoSuchUploadError

_logger = logging.getLogger("fettle.server")
_RETRY_SECONDS, _MOST_RETRY_SECONDS = 2, 60
_MOST_SHOWN = 200
_LONGEST_MESSAGE = 2000
_NO_OBJECT = "We could not parse the body of your request: it must be one JSON object, sent with `Content-Type: application/json`."
_SHORTER = ("at least", "min_length", "string_below_min_length")
_LONGER = ("at most", "max_length", "string_above_max_length")
_UNION_MEMBER = re.compile(
    r"(?:function-(?:after|before|wrap|plain)|list|dict|tuple|set|literal|nullable|union)\[.*\]", re.DOTALL
)
_PLAIN_UNION_MEMBERS = ("constrained-str", "constrained-int", "constrained-float", "str", "int", "float", "bool")
_LENGTHS = {"too_short": _SHORTER, "string_too_short": _SHORTER, "too_long": _LONGER, "string_too_long": _LONGER}
"""Of texts: in words, the bound's name, the code."""


class ErrorDetail(BaseModel):
    """What is wrong, in words and in a code that programs know."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer that is no success.

    Args:
        message: One or two sentences that a user can act on, with the id or value that is wrong.
        status: HTTP status.
        code: What programs know it by.
        param: The field concerned.
        headers: Sent with it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        message = _as_text(message)
        self.message = message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]} ..."
        self.status, self.code, self.param = status, code, None if param is None else _as_text(param)
        self.headers = dict(headers or {})
        super().__init__(message)

    @property
    def body(self) -> ErrorBody:
        """What is sent."""
        type_ = "server_error" if self.status >= 500 else "invalid_request_error"
        return ErrorBody(error=ErrorDetail(message=self.message, type=type_, param=self.param, code=self.code))

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body.model_dump(), status_code=self.status, headers=self.headers)


def _as_text(text: str) -> str:
    """Text that can be sent: what a user gave, and we repeat, may hold halves of surrogate pairs.

    >>> _as_text("a\\ud800")
    'a?'
    """
    return text.encode("utf-8", "replace").decode()


def invalid(message: str, param: str, code: str = "invalid_value") -> ApiError:
    """The answer to a value that cannot be.

    >>> invalid("`n` is 0.", "n", "integer_below_min_value").status
    400
    """
    return ApiError(message, param=param, code=code)


def too_large(max_bytes: int) -> ApiError:
    """The answer to a body that is longer than the route takes."""
    shown = f"{max_bytes / (1 << 20):g} MiB" if max_bytes >= 1 << 20 else f"{max_bytes} bytes"
    return ApiError(f"The body of this request is larger than the {shown} that are taken here.", status=413)


def unnamed_error(status: int) -> ApiError:
    """The answer where all that is known is a status."""
    phrase = next((known.phrase for known in HTTPStatus if known == status), f"Status {status}")
    return ApiError(f"{phrase}.", status=status)


_CODES: dict[type[FettleError], tuple[int, str | None]] = {
    NoSuchFileError: (404, None),
    NoSuchUploadError: (404, None),
    NoSuchEvalError: (404, None),
    NoSuchIndexError: (404, None),
    NoSuchAttachedFileError: (404, None),
    NoSuchBatchError: (404, None),
    NoSuchJobError: (404, "fine_tune_not_found"),
    NoSuchModelError: (404, "model_not_found"),
    WrongModelKindError: (400, "model_not_supported"),
    BusyError: (429, "rate_limit_exceeded"),
}


def api_error(error: FettleError) -> ApiError:
    """How an error of the product is answered."""
    if isinstance(error, InvalidGraderError):
        return ApiError(error.describe(), param=error.where, code=error.code)
    if isinstance(error, UnknownPageError):
        return ApiError(error.describe(), param="after", code="invalid_value")
    for parent in type(error).__mro__:
        if parent in _CODES:
            status, code = _CODES[parent]
            headers = {"retry-after": _seconds_to_wait(error)} if isinstance(error, BusyError) else {}
            return ApiError(error.describe(), status=status, code=code, headers=headers)
    status = http_status(error)
    headers = {"retry-after": str(_RETRY_SECONDS)} if status == 503 else {}
    message = error.describe() if status < 500 else error.problem  # where, and what to do, is for who runs the server
    return ApiError(message, status=status, headers=headers)


def _seconds_to_wait(error: BusyError) -> str:
    """As clients obey it: whole seconds, and no more of them than they would wait."""
    return str(min(max(math.ceil(error.retry_after_seconds), 1), _MOST_RETRY_SECONDS))


@contextmanager
def disk_faults_are_ours(place: Path) -> Iterator[None]:
    """Let nobody be told to choose another folder who has sent something to a server that cannot write.

    Raises:
        ResourceError: The disk is full, or the place cannot be written.
    """
    try:
        with disk_errors_explained(place):
            yield
    except ConfigError as error:
        raise ResourceError("the server cannot write where it keeps files", where=str(place)) from error


def validation_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The answer to a body, query or form that has not the form it should have, by its first mistake."""
    first = _most_telling(errors)
    kind, where = str(first["type"]), _path(first.get("loc", ()))
    is_no_object = kind in ("missing", "model_attributes_type", "model_type", "dict_type") and where is None
    if kind == "json_invalid" or is_no_object:
        return ApiError(_NO_OBJECT)
    if kind == "missing":
        return ApiError(f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter")
    if kind == "extra_forbidden":
        return ApiError(f"Unknown parameter: '{where}'.", param=where, code="unknown_parameter")
    message = f"Invalid value for '{where}': {_reason(first)}" if where else _reason(first)
    return ApiError(message, param=where, code=_code(kind, first))


def _most_telling(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first mistake; where a value may be of several kinds, the first one in the kind that it is of, if it is of any."""
    first = errors[0]
    field = _path(first.get("loc", ()))
    kinds = [error for error in errors if any(_is_union_member(part) for part in error.get("loc", ()))]
    if first not in kinds:
        return first
    of_its_kind = (error for error in kinds if not _is_of_another_kind(error))
    return next((error for error in of_its_kind if (_path(error["loc"]) or "").startswith(field or "")), first)


def _is_of_another_kind(error: Mapping[str, Any]) -> bool:
    return _is_union_member(error["loc"][-1]) and str(error["type"]).endswith("_type")


def _is_union_member(part: Any) -> bool:
    """Whether a part of a location is no field, but what pydantic calls one of the kinds that a value may be of."""
    return isinstance(part, str) and (part in _PLAIN_UNION_MEMBERS or bool(_UNION_MEMBER.fullmatch(part)))


def _path(loc: Sequence[Any]) -> str | None:
    """`("body", "method", "dpo", 0)` as `method.dpo[0]`; None for the body itself."""
    inner = loc[1:] if loc and loc[0] in ("body", "query", "path", "header") else loc
    parts = [part for part in inner if part != "[key]" and not _is_union_member(part)]
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text[:_MOST_SHOWN] or None


def _reason(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    if isinstance(given, str) and (bound := _LENGTHS.get(str(error["type"]))):
        few_or_many, name, _ = bound
        message = f"expected {few_or_many} {error['ctx'][name]} characters, and it has {len(given)}"
    shown = "" if isinstance(given, dict | list) or given is None else f" (it is {str(given)[:_MOST_SHOWN]!r})"
    return f"{message}{shown}."


def _code(kind: str, error: Mapping[str, Any]) -> str:
    if kind in _LENGTHS and isinstance(error.get("input"), str):
        return _LENGTHS[kind][2]
    bounds = {
        "greater_than_equal": "below_min_value",
        "greater_than": "below_min_value",
        "less_than_equal": "above_max_value",
        "less_than": "above_max_value",
    }
    if kind in bounds:
        number = "decimal" if isinstance(next(iter(error["ctx"].values())), float) else "integer"
        return f"{number}_{bounds[kind]}"
    if kind.endswith(("_type", "_parsing")) or kind in ("int_from_float", "finite_number"):
        return "invalid_type"
    return "invalid_value"


def install_error_handlers(app: FastAPI) -> None:
    """Let no error leave the server in another form."""

    @app.exception_handler(ApiError)
    async def _of_ours(_request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(FettleError)
    async def _of_the_product(_request: Request, error: FettleError) -> JSONResponse:
        answer = api_error(error)
        if answer.status >= 500:
            _logger.error("request failed: %s", type(error).__name__, exc_info=error)
        return answer.response()

    @app.exception_handler(RequestValidationError)
    async def _of_form(_request: Request, error: RequestValidationError) -> JSONResponse:
        return validation_error(error.errors()).response()

    @app.exception_handler(ValidationError)
    async def _of_form_inside(_request: Request, error: ValidationError) -> JSONResponse:
        return validation_error(error.errors()).response()  # pyright: ignore[reportArgumentType] (typed dictionaries)

    @app.exception_handler(HTTPException)
    async def _of_http(request: Request, error: HTTPException) -> JSONResponse:
        limit = request.scope.get(MAX_BODY_SIZE_SCOPE_KEY)
        if error.status_code == 413 and limit is not None:
            return too_large(limit).response()
        messages = {
            400: _NO_OBJECT,  # nothing else raises it: what FastAPI cannot read at all
            404: f"Invalid URL ({request.method} {request.url.path})",
            405: f"Not allowed to {request.method} on {request.url.path}.",
        }
        message = messages.get(error.status_code, str(error.detail))
        return ApiError(message, status=error.status_code, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def _of_unknown_kind(_request: Request, error: Exception) -> JSONResponse:
        _logger.error("request failed: %s", type(error).__name__, exc_info=error)
        return ApiError(
            "The server had an error while processing your request. It was recorded.", status=500
        ).response()
