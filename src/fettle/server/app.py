"""The API as an ASGI application. It answers and enqueues; it never trains."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from fettle.server import health
from fettle.server.access import Access
from fettle.server.boundary import Boundary
from fettle.server.context import API_PREFIX, Context
from fettle.server.errors import install_error_handlers
from fettle.server.routes import ROUTERS
from fettle.server.wire import ERRORS
from fettle.version import fettle_version

_HEADERS_FOR_BROWSERS = (
    "x-request-id",
    "x-fettle-release",
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)


class _Application(FastAPI):
    """FastAPI within our own outermost layers."""

    def __init__(self, context: Context) -> None:
        self._context = context
        super().__init__(
            title="Fettle",
            version=fettle_version(),
            description="OpenAI's fine-tuning API on a machine of your own.",
            lifespan=_closes_the_context,
            docs_url=None,  # its page loads scripts from elsewhere
            redoc_url=None,
            openapi_url="/openapi.json",
            redirect_slashes=False,
            max_body_size=context.settings.max_body_bytes,  # but for routes that stream to the disk
        )
        self.state.context = context

    def build_middleware_stack(self) -> ASGIApp:
        """All layers, the outermost last. The handling of errors is inside, so that its answers are seen too."""
        app: ASGIApp = Access(super().build_middleware_stack(), self._context)
        if self._context.settings.cors_origins:
            app = CORSMiddleware(
                app,
                allow_origins=self._context.settings.cors_origins,
                allow_methods=("GET", "POST", "DELETE"),
                allow_headers=("*",),
                expose_headers=_HEADERS_FOR_BROWSERS,
            )
        return Boundary(app, self._context)


@asynccontextmanager
async def _closes_the_context(app: FastAPI) -> AsyncIterator[None]:
    try:
        yield
    finally:
        app.state.context.close()


def create_app(context: Context) -> FastAPI:
    """The application over one store."""
    app = _Application(context)
    context.metrics.watch_store(context.store)
    context.metrics.watch_engines(lambda: context.engines.load)
    context.metrics.watch_keeper(lambda: context.keeper.counts)
    context.metrics.watch_shadows(lambda: context.shadows.counts)
    install_error_handlers(app)
    v1 = APIRouter(prefix=API_PREFIX, responses=ERRORS)
    for router in ROUTERS:
        v1.include_router(router)
    app.include_router(v1)
    app.include_router(health.router)
    return app
