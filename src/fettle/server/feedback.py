"""Feedback: what users say of answers. Ours: OpenAI's API has no such thing.

It is kept with the request that it is of, and goes with it. Where nothing was kept of the request, there is nothing to say it of.
Where a release challenges the one in force, it is an outcome, which may decide the challenge.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, StrictFloat, StrictInt

from fettle.releases.challenging import put_winner_in_force, take_feedback
from fettle.server.context import ContextOf, OwnerOf
from fettle.server.errors import ApiError, invalid
from fettle.server.wire import After, RequestBody, Text, ends
from fettle.store.database import now
from fettle.store.ids import new_id
from fettle.store.pages import PageRequest
from fettle.store.traffic import (
    Feedback,
    KeptRequest,
    NoSuchCompletionError,
    add_feedback,
    feedback_on,
    find_kept,
    list_feedback,
)
from fettle.traffic.redact import redacted

router = APIRouter(prefix="/feedback", tags=["feedback"])
_SECONDS_UNTIL_KEPT = 2.0
_MOST_OF_A_COMPLETION = 100
_SCORES = {"up": 1.0, "down": 0.0}
Limit = Annotated[int, Query(ge=1, le=100)]
Order = Annotated[Literal["asc", "desc"], Query(description="By creation.")]


class CreateFeedback(RequestBody):
    """The body of `POST /feedback`. At least one of score, thumb, corrected answer and comment is needed."""

    completion_id: Annotated[Text, Field(min_length=1, max_length=64)]
    score: Annotated[StrictFloat | StrictInt, Field(ge=0, le=1)] | None = None
    thumb: Literal["up", "down"] | None = None
    corrected_answer: Annotated[Text, Field(min_length=1, max_length=200_000)] | None = None
    comment: Annotated[Text, Field(min_length=1, max_length=10_000)] | None = None

    def value(self) -> float | None:
        """The score, in [0, 1].

        Raises:
            ApiError: It is said twice, or nothing is said at all.
        """
        if self.thumb is not None:
            if self.score is not None:
                raise invalid("Give either 'score' or 'thumb', not both.", "thumb")
            return _SCORES[self.thumb]
        if self.score is None and self.corrected_answer is None and self.comment is None:
            message = "Missing required parameter: one of 'score', 'thumb', 'corrected_answer' and 'comment'."
            raise invalid(message, "score", "missing_required_parameter")
        return None if self.score is None else float(self.score)


class FeedbackBody(BaseModel):
    """What was said of a completion."""

    id: str
    object: Literal["feedback"] = "feedback"
    created_at: int
    completion_id: str
    score: float | None
    corrected_answer: str | None
    comment: str | None


class FeedbackList(BaseModel):
    """A page of it."""

    object: Literal["list"] = "list"
    data: list[FeedbackBody]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.post("")
def create(body: CreateFeedback, context: ContextOf, owner: OwnerOf) -> FeedbackBody:
    """Say how good an answer was, or what it should have been."""
    score, corrected, comment = body.value(), body.corrected_answer, body.comment
    request = _request(context, owner.project_id, body.completion_id)
    if corrected is not None and request.request is None:
        message = (
            f"Of the completion '{request.id}' the texts are not kept, as only a share of this key's are: "
            "a corrected answer would be of no use. Send a score or a thumb."
        )
        raise invalid(message, "corrected_answer")
    if request.is_redacted:
        corrected = None if corrected is None else redacted(corrected, is_answer=True)
        comment = None if comment is None else redacted(comment)
    given = Feedback(
        id=new_id("fdbk_"),
        project_id=owner.project_id,
        completion_id=request.id,
        score=score,
        corrected_answer=corrected,
        comment=comment,
        created_at=now(),
    )
    with context.store.writing() as connection:
        find_kept(connection, owner.project_id, request.id)  # it may have expired meanwhile
        if len(feedback_on(connection, [request.id]).get(request.id, ())) >= _MOST_OF_A_COMPLETION:
            message = f"Of the completion '{request.id}' {_MOST_OF_A_COMPLETION} things were said already, and no more are taken."
            raise invalid(message, "completion_id")
        add_feedback(connection, given)
        look = take_feedback(connection, request, given)
    put_winner_in_force(context.store, request, look)
    return _body(given)


@router.get("")
def index(
    context: ContextOf,
    owner: OwnerOf,
    completion_id: Annotated[Text | None, Query(description="Of this completion alone.")] = None,
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
) -> FeedbackList:
    """A project's feedback."""
    page = PageRequest(limit=limit, after=after, newest_first=order == "desc")
    with context.store.reading() as connection:
        found = list_feedback(connection, owner.project_id, page, completion_id=completion_id)
    data = [_body(one) for one in found.items]
    first_id, last_id = ends([one.id for one in data])
    return FeedbackList(data=data, first_id=first_id, last_id=last_id, has_more=found.has_more)


def _request(context: ContextOf, project_id: str, completion_id: str) -> KeptRequest:
    """The request that feedback is of; one that was answered this moment may not be written yet.

    Raises:
        ApiError: It was not kept.
    """
    is_written = False
    while True:
        try:
            with context.store.reading() as connection:
                return find_kept(connection, project_id, completion_id)
        except NoSuchCompletionError as error:
            if not is_written:
                is_written = True
                if context.keeper.counts.num_waiting and context.keeper.wait_until_written(_SECONDS_UNTIL_KEPT):
                    continue
            message = (
                f"No completion '{completion_id}' is kept. Feedback is taken on what was answered after "
                "`fettle keys keep-traffic` was called for the key, as long as its days last."
            )
            raise ApiError(message, status=404, code="completion_not_kept", param="completion_id") from error


def _body(given: Feedback) -> FeedbackBody:
    return FeedbackBody(
        id=given.id,
        created_at=given.created_at,
        completion_id=given.completion_id,
        score=given.score,
        corrected_answer=given.corrected_answer,
        comment=given.comment,
    )
