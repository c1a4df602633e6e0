"""Who may ask what: the key, and its limits, are looked at before anything of a request's body is read."""

from __future__ import annotations

import math
import re
from contextlib import ExitStack

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from fettle.errors import FettleError
from fettle.server.context import API_PREFIX, Context
from fettle.server.errors import ApiError, api_error
from fettle.server.limits import KeyLimits, LimitReachedError
from fettle.store.keys import DEFAULT_PROJECT, Owner, ensure_project, owner_of

_WITHOUT_KEY = "none"
_LOOPBACK = re.compile(r"(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?", re.IGNORECASE)


class Access:
    """Lets requests to the API pass that carry a key, as many as its limits allow, and says in `state.owner` whose they are.

    Args:
        app: What is behind it.
        context: The server's.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app, self._context = app, context
        self._limits = KeyLimits(context.settings.requests_per_minute, context.settings.concurrent_requests)
        self._everybody: Owner | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or answer 401 or 429."""
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(f"{API_PREFIX}/"):
            await self._app(scope, receive, send)
            return
        with ExitStack() as until_answered:
            try:
                owner = await run_in_threadpool(self._owner, Headers(scope=scope))
                headers = until_answered.enter_context(self._limits.admitted(owner.key_id))
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
            except FettleError as error:
                await _answer(error).response()(scope, receive, send)
                return
            scope.setdefault("state", {}).update(owner=owner, answer_headers=headers)
            await self._app(scope, receive, send)

    def _owner(self, headers: Headers) -> Owner:
        """Whose key it is.

        Raises:
            ApiError: There is none, or one that opens nothing.
        """
        if not self._context.settings.requires_key:
            return self._anybody(headers)
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            message = (
                "You didn't provide an API key. Send it as `Authorization: Bearer KEY`; `fettle keys create` makes one."
            )
            raise ApiError(message, status=401, headers={"www-authenticate": "Bearer"})
        owner = owner_of(self._context.store, secret.strip())
        if owner is None:
            message = "Incorrect API key provided. `fettle keys list` shows which keys are in use."
            raise ApiError(message, status=401, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
        return owner

    def _anybody(self, headers: Headers) -> Owner:
        """Without keys; a web page that has its own name point to this machine does not count.

        Raises:
            ApiError: The request is meant for another host.
        """
        host = headers.get("host", "")
        if not _LOOPBACK.fullmatch(host):
            message = (
                f"This server runs without keys, and answers only to localhost; the request is for {host[:100]!r}."
            )
            raise ApiError(message, status=403, code="insufficient_permissions")
        if self._everybody is None:
            with self._context.store.writing() as connection:
                project_id = ensure_project(connection, DEFAULT_PROJECT).id
            self._everybody = Owner(project_id=project_id, key_id=_WITHOUT_KEY)
        return self._everybody


def _answer(error: FettleError) -> ApiError:
    if not isinstance(error, LimitReachedError):
        return api_error(error)
    waits = {
        "retry-after": str(max(1, math.ceil(error.seconds))),
        "retry-after-ms": str(math.ceil(error.seconds * 1000)),
    }
    return ApiError(error.problem, status=429, code="rate_limit_exceeded", headers={**waits, **error.headers})
