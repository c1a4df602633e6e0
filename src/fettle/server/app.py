"""The API as an ASGI application. It answers and enqueues; it never trains."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI, Request, Response

from fettle.server.context import Context, owner_of_request
from fettle.server.errors import install_error_handlers
from fettle.server.routes import ROUTERS
from fettle.server.wire import ERRORS
from fettle.store.ids import new_id
from fettle.version import fettle_version


def create_app(context: Context) -> FastAPI:
    """The application over one store."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            context.close()

    app = FastAPI(
        title="Fettle",
        version=fettle_version(),
        description="OpenAI's fine-tuning API on a machine of your own.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.context = context
    install_error_handlers(app)
    app.middleware("http")(_with_request_id)
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(owner_of_request)], responses=ERRORS)
    for router in ROUTERS:
        v1.include_router(router)
    app.include_router(v1)
    return app


async def _with_request_id(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers["x-request-id"] = new_id("req_")
    return response
