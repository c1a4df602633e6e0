"""The outermost layer: every answer has an id, every request a line in the log, and no fault leaves as anything but JSON.

Plain ASGI, without a task or a queue between the client and the resource: streams flow, and a client that hangs up is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fettle.server.context import API_PREFIX, Context
from fettle.server.errors import ApiError, too_large, unnamed_error
from fettle.server.logs import RequestRecord
from fettle.store.ids import new_id
from fettle.store.keys import Owner

_requests = logging.getLogger("fettle.requests")
_logger = logging.getLogger("fettle.server")
_CLIENT_GONE = 499
_MOST_DRAINED_BYTES = 64 << 20
_DRAINING_SECONDS = 10.0
_UNKNOWN_ROUTE = "unknown"
_MOST_METHOD_LENGTH = 16


class Boundary:
    """Wraps the whole application.

    Args:
        app: The application, its own handling of errors included.
        context: The server's.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app, self._context = app, context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; all else is passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        started = time.monotonic()
        try:
            await self._answer(exchange)
        finally:
            self._record(exchange, time.monotonic() - started)

    async def _answer(self, exchange: _Exchange) -> None:
        scope, receive, send = exchange.scope, exchange.receive, exchange.send
        try:
            if (refusal := _refusal(scope)) is not None:
                await refusal.response()(scope, receive, send)
                return
            await self._app(scope, receive, send)
        except Exception as error:
            if exchange.status is None:
                _logger.exception("request %s failed: %s", exchange.request_id, type(error).__name__)
                await ApiError("The server had an error while processing your request.", status=500).response()(
                    scope, receive, send
                )
            elif not exchange.is_complete:
                _logger.exception("answer %s was cut: %s", exchange.request_id, type(error).__name__)
                raise  # the connection is closed, so that the client does not take what it has for the whole

    def _record(self, exchange: _Exchange, seconds: float) -> None:
        scope = exchange.scope
        route = _template(scope)
        owner: Owner | None = scope.get("state", {}).get("owner")
        status = exchange.status if exchange.is_complete and exchange.status is not None else _CLIENT_GONE
        method = scope["method"][:_MOST_METHOD_LENGTH]
        self._context.metrics.on_request(method=method, route=route, status=status, seconds=seconds)
        record = RequestRecord(
            request_id=exchange.request_id,
            method=method,
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 1),
            project_id=None if owner is None else owner.project_id,
            key_id=None if owner is None else owner.key_id,
        )
        _requests.info(record)


class _Exchange:
    """One request and its answer, as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.request_id = new_id("req_")
        self.status: int | None = None
        """Of the answer; None: it has not begun."""
        self.is_complete = False
        self._envelope: bytes | None = None
        """Takes the place of an error that is told in another form."""
        headers = Headers(scope=scope)
        self._body_is_due = "content-length" in headers or "transfer-encoding" in headers
        self._waits_for_leave = "expect" in headers  # the client sends its body once we begin to read

    async def receive(self) -> Message:
        """The next piece of the request."""
        self._waits_for_leave = False
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._body_is_due = False
        return message

    async def send(self, message: Message) -> None:
        """The next piece of the answer."""
        if message["type"] == "http.response.start":
            await self._start(message)
            return
        if self._envelope is not None:
            if self.is_complete:
                return
            message = {"type": "http.response.body", "body": self._envelope}
        await self._send(message)
        self.is_complete = not message.get("more_body", False)

    async def _start(self, message: Message) -> None:
        self.status = int(message["status"])
        headers = MutableHeaders(raw=list(message["headers"]))
        if self.status >= 400:
            if not headers.get("content-type", "").startswith("application/json"):
                self._envelope = await self._enveloped(headers)
            await self._drain()
        headers["x-request-id"] = self.request_id
        headers.update(self.scope.get("state", {}).get("answer_headers", {}))
        await self._send({**message, "headers": headers.raw})

    async def _enveloped(self, headers: MutableHeaders) -> bytes:
        assert self.status is not None, "the answer begins"
        limit = self.scope.get(MAX_BODY_SIZE_SCOPE_KEY)
        error = too_large(limit) if self.status == 413 and limit is not None else unnamed_error(self.status)
        body = bytes(error.response().body)
        headers["content-type"], headers["content-length"] = "application/json", str(len(body))
        return body

    async def _drain(self) -> None:
        """Read what the client is still sending: it would see its connection break otherwise, and not the answer."""
        if not self._body_is_due or self._waits_for_leave:
            return
        num_bytes = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAINING_SECONDS):
                while self._body_is_due and num_bytes < _MOST_DRAINED_BYTES:
                    num_bytes += len((await self.receive()).get("body", b""))


def _refusal(scope: Scope) -> ApiError | None:
    """Why a request cannot be what any resource understands; None: it may be."""
    if "\0" in scope["path"]:
        return ApiError(f"Invalid URL ({scope['method']} {scope['path'].replace(chr(0), '%00')})", status=404)
    coding = Headers(scope=scope).get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        return ApiError(
            f"Bodies in the content encoding {coding[:50]!r} are not read. Send yours as it is, without it."
        )
    return None


def _template(scope: Scope) -> str:
    """The route's template, such as `/v1/files/{file_id}`."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return _UNKNOWN_ROUTE
    return f"{API_PREFIX}{path}" if scope["path"].startswith(f"{API_PREFIX}/") else path
