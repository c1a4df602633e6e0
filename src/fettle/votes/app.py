"""The page and what its script asks for, as an ASGI application for the loopback interface.

Every path begins with a secret token, which keeps out other users of the machine and other sites in the browser.
"""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fettle.errors import FettleError, http_status
from fettle.report_records import StudyReport
from fettle.votes.booth import Ballot, Booth, Standing
from fettle.votes.page import HEADERS, page_file, render_page
from fettle.votes.records import (
    MAX_COMMENT_CHARACTERS,
    MAX_SECONDS,
    Choice,
    rater_name,
)

_MAX_BODY_BYTES = 64 << 10
_HOSTS = ["127.0.0.1", "localhost"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rater: str


class _CastBody(_Body):
    example_id: str
    choice: Choice
    seconds: float = Field(ge=0, le=MAX_SECONDS)
    comment: str = Field(default="", max_length=MAX_COMMENT_CHARACTERS)


class _BallotBody(BaseModel):
    example_id: str
    input: str
    left: str
    right: str

    @classmethod
    def of(cls, ballot: Ballot) -> _BallotBody:
        return cls(
            example_id=ballot.example_id, input=ballot.input_text, left=ballot.left_answer, right=ballot.right_answer
        )


class _StandingBody(BaseModel):
    rater: str
    num_done: int
    num_asked: int
    seconds_per_vote: float | None
    ballot: _BallotBody | None

    @classmethod
    def of(cls, rater: str, standing: Standing) -> _StandingBody:
        return cls(
            rater=rater,
            num_done=standing.num_done,
            num_asked=standing.num_asked,
            seconds_per_vote=standing.seconds_per_vote,
            ballot=None if standing.ballot is None else _BallotBody.of(standing.ballot),
        )


class _WithHeaders:
    """The outermost layer: errors, too, are sent with the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def create_app(booth: Booth, report: StudyReport, *, token: str) -> ASGIApp:
    """The application.

    Args:
        booth: Where votes are cast.
        report: Its study's name and instruction are shown.
        token: The first part of every path.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, max_body_size=_MAX_BODY_BYTES)
    app.add_exception_handler(FettleError, _explain)
    app.include_router(_files(report), prefix="/{token}", dependencies=[Depends(_Require(token))])
    app.include_router(_votes(booth), prefix="/{token}", dependencies=[Depends(_Require(token))])
    return _WithHeaders(TrustedHostMiddleware(app, allowed_hosts=_HOSTS))


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def _files(report: StudyReport) -> APIRouter:
    router = APIRouter()
    page = render_page(study=report.name, instruction=report.provenance.instruction)
    style, script = page_file("vote.css"), page_file("vote.js")

    @router.get("/")
    def show_page() -> HTMLResponse:
        return HTMLResponse(page)

    @router.get("/vote.css")
    def show_style() -> Response:
        return Response(style, media_type="text/css")

    @router.get("/vote.js")
    def show_script() -> Response:
        return Response(script, media_type="text/javascript")

    return router


def _votes(booth: Booth) -> APIRouter:
    """Each answer says what comes next."""
    router = APIRouter()

    def standing(rater: str) -> _StandingBody:
        return _StandingBody.of(rater, booth.standing(rater))

    @router.get("/standing")
    def show_standing(rater: Annotated[str, Query()]) -> _StandingBody:
        return standing(rater_name(rater))

    @router.post("/votes")
    def cast(body: _CastBody) -> _StandingBody:
        rater = rater_name(body.rater)
        booth.cast(rater, body.example_id, body.choice, seconds=body.seconds, comment=body.comment)
        return standing(rater)

    @router.post("/undo")
    def undo(body: _Body) -> _StandingBody:
        rater = rater_name(body.rater)
        booth.undo(rater)
        return standing(rater)

    return router


class _Require:
    """A path that begins with another token leads nowhere."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def __call__(self, token: str) -> None:
        if not secrets.compare_digest(token.encode(), self._token):
            raise HTTPException(404)


async def _explain(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FettleError)
    return JSONResponse({"problem": error.problem, "remedy": error.remedy}, status_code=http_status(error))
