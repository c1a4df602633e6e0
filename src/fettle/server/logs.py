"""The log: one JSON object a line, on standard error, without keys and without what was asked or answered.

Errors are told by their kind and by the lines of code that they came through. Their texts are left out, because libraries quote in
them what they were given; only `FettleError` says what a user may read, and code that logs it passes its text itself.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from dataclasses import asdict, dataclass

_OURS = ("fettle", "uvicorn")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """What is known of a request once it is answered."""

    request_id: str
    method: str
    route: str
    """The route's template, never the path: ids of others' things do not get into the log."""
    status: int
    """HTTP status; 499: the client had gone before it was answered."""
    milliseconds: float
    """Until the last byte of the answer."""
    project_id: str | None
    """None: no key, or one that opens nothing."""
    key_id: str | None


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if isinstance(record.msg, RequestRecord):
            entry |= {"message": "request", **asdict(record.msg)}
        else:
            entry["message"] = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            entry["error"] = _without_text(record.exc_info[1])
        return json.dumps(entry, ensure_ascii=False)


def log_to_stderr() -> None:
    """Let this process write its log to standard error: ours and uvicorn's from `info`, that of other libraries from `warning`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.INFO)
        logger.propagate = True


def _without_text(error: BaseException) -> list[dict[str, object]]:
    """An error and what caused it, the outermost first: kinds and lines of code."""
    chain, seen = [], set[int]()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        lines = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(at.__traceback__)]
        chain.append({"kind": f"{type(at).__module__}.{type(at).__qualname__}", "lines": lines})
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return chain
