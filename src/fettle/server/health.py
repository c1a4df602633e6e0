"""What watches a server asks: whether it lives, whether it can work, and its numbers. No key is wanted, and no names are told."""

from __future__ import annotations

import ipaddress
import shutil
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from fettle.errors import FettleError
from fettle.server.context import Context, ContextOf
from fettle.server.settings import MetricsAccess

router = APIRouter(tags=["operations"])


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Whether requests can be served, and what stands in the way."""

    status: Literal["ready", "not ready"]
    database: str
    migrations: str
    disk: str


@router.get("/healthz")
async def healthz() -> Alive:
    """Alive. A server that does not answer this should be started again."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Ready}})
def readyz(context: ContextOf) -> JSONResponse:
    """Ready: the database answers, its tables are this version's, and the disk has room. Otherwise 503; it may pass by itself."""
    database, migrations = _database(context)
    disk = _disk(context)
    is_ready = (database, migrations, disk) == ("ok", "ok", "ok")
    body = Ready(status="ready" if is_ready else "not ready", database=database, migrations=migrations, disk=disk)
    return JSONResponse(body.model_dump(), status_code=200 if is_ready else 503)


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, context: ContextOf) -> Response:
    """The numbers, for Prometheus."""
    access = context.settings.metrics
    if access is MetricsAccess.OFF or (access is MetricsAccess.LOOPBACK and not _is_from_here(request)):
        raise HTTPException(404)
    return Response(context.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _is_from_here(request: Request) -> bool:
    """Whether the client is on this machine; one that came by a reverse proxy here is where the proxy says."""
    if request.client is None or "forwarded" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _database(context: Context) -> tuple[str, str]:
    try:
        return "ok", "ok" if context.store.is_current else "the tables are not those of this version"
    except FettleError:
        return "does not answer", "unknown"


def _disk(context: Context) -> str:
    try:
        free = shutil.disk_usage(context.store.home).free
    except OSError:
        return "cannot be read"
    least = context.settings.min_free_bytes
    return "ok" if free >= least else f"less than {least >> 20} MiB are free"
