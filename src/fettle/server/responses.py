"""Responses: the newer spelling of a chat, by the same engines. They are not kept, so there is nothing to get or to go on from."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from fettle.answering.chat import ChatEnd, Choice, ChoiceDelta
from fettle.errors import FettleError
from fettle.server.chat import HUNG_UP, again, begun, question_of, say_who_answers
from fettle.server.context import ContextOf, OwnerOf
from fettle.server.errors import api_error
from fettle.server.hang_up import HungUpError, unless_hung_up
from fettle.server.keeping import Asked, kept_alone
from fettle.server.response_answers import Event, ResponseBody, ResponseWriter
from fettle.server.response_bodies import CreateResponse, in_terms_of_responses

router = APIRouter(prefix="/responses", tags=["responses"])
_logger = logging.getLogger("fettle.server")


@router.post("", responses={200: {"model": ResponseBody, "content": {"text/event-stream": {}}}})
async def create(body: CreateResponse, request: Request, context: ContextOf, owner: OwnerOf) -> Response:
    """Answer a conversation."""
    asked, started = body.as_request(), time.monotonic()
    try:
        with in_terms_of_responses():
            question = question_of(owner, body, asked)
            answer = await unless_hung_up(request, begun(context, question))
        say_who_answers(request, answer)
        [choice] = answer.choices
        writer = ResponseWriter(body, answer.retrieval, answer.answering.release)
        of_whom = Asked(
            completion_id=writer.id,
            owner=owner,
            model=body.model,
            request=asked,
            answering=answer.answering,
            ask_again=again(context, question),
            started=started,
        )
        deltas = kept_alone(_deltas(choice), of_whom, choice, context)
        try:
            if body.stream:
                return await _streamed(request, writer, choice, deltas)
            return await unless_hung_up(request, _whole(writer, choice, deltas))
        except BaseException:
            choice.give_up()
            raise
    except HungUpError:
        return Response(status_code=HUNG_UP)


async def _whole(writer: ResponseWriter, choice: Choice, deltas: AsyncGenerator[ChoiceDelta, None]) -> Response:
    end = ChatEnd.STOP
    for _ in writer.begin():
        pass
    async for delta in deltas:
        for _ in writer.of(delta):
            pass
        end = delta.end or end
    *_, last = writer.end(end, choice)
    return JSONResponse(last["response"])


async def _streamed(
    request: Request, writer: ResponseWriter, choice: Choice, deltas: AsyncGenerator[ChoiceDelta, None]
) -> Response:
    """A stream. What goes wrong before anything is written is an answer of its own."""
    first = await unless_hung_up(request, anext(deltas))
    return StreamingResponse(_events(writer, choice, first, deltas), media_type="text/event-stream")


async def _deltas(choice: Choice) -> AsyncGenerator[ChoiceDelta, None]:
    async for delta in choice:
        yield delta


async def _events(
    writer: ResponseWriter, choice: Choice, first: ChoiceDelta, deltas: AsyncGenerator[ChoiceDelta, None]
) -> AsyncIterator[str]:
    try:
        yield _sent(writer.begin())
        yield _sent(writer.of(first))
        end = first.end
        async for delta in deltas:
            yield _sent(writer.of(delta))
            end = delta.end or end
        yield _sent(writer.end(end or ChatEnd.STOP, choice))
    except FettleError as error:
        answer = api_error(error)
        if answer.status >= 500:
            _logger.error("a stream failed: %s", type(error).__name__, exc_info=error)
        yield _sent([writer.fail(answer.message)])
    finally:
        choice.give_up()
        await deltas.aclose()


def _sent(events: Iterable[Event]) -> str:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events)
