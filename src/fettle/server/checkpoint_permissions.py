"""Sharing of checkpoints between projects: a right of organisations in OpenAI's API, which nobody has here."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from fettle.server.errors import ApiError, ErrorBody

router = APIRouter(prefix="/fine_tuning/checkpoints/{checkpoint}/permissions", tags=["fine-tuning"])
_REASON = (
    "sharing between projects is a right of an organisation's administrators, and this server has no such right. Every key of the "
    "project in which a checkpoint was made can use it: take such a key, or create the job in the other project."
)


@router.get("", status_code=403, response_model=ErrorBody)
def index(checkpoint: str) -> JSONResponse:
    """With whom a checkpoint is shared. Always refused."""
    return _refusal(f"There are no permissions of `{checkpoint}`")


@router.post("", status_code=403, response_model=ErrorBody)
def create(checkpoint: str) -> JSONResponse:
    """Share a checkpoint with other projects. Always refused."""
    return _refusal(f"`{checkpoint}` cannot be shared")


@router.delete("/{permission_id}", status_code=403, response_model=ErrorBody)
def delete(checkpoint: str, permission_id: str) -> JSONResponse:
    """Share a checkpoint no longer. Always refused."""
    return _refusal(f"There is no permission `{permission_id}` of `{checkpoint}`")


def _refusal(problem: str) -> JSONResponse:
    return ApiError(f"{problem}: {_REASON}", status=403, code="insufficient_permissions").response()
