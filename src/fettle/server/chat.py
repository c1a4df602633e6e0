"""Chat completions: the base models and everything tuned from them, answered whole or as a stream."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from fettle.answering.chat import ChatRequest, Choice, ChoiceDelta, begin_chat, give_up_all
from fettle.answering.serving_engine import ServingEngine
from fettle.errors import ConfigError, ContextLengthError, DataError, FettleError, IntegrityError, ModelError
from fettle.files import sha256_of_json
from fettle.releases.arms import assignment_key
from fettle.releases.catalogue import Answering
from fettle.releases.prompting import as_asked
from fettle.releases.routed import Errand
from fettle.releases.signing import ChangedReleaseError
from fettle.server.begun_answer import BegunAnswer
from fettle.server.chat_answers import ChatCompletionBody, ChatFrame, ChunkWriter, TokenTexts, WholeChoice, usage_body
from fettle.server.chat_bodies import CreateChatCompletion
from fettle.server.context import Context, ContextOf, OwnerOf
from fettle.server.errors import ApiError, api_error, invalid
from fettle.server.hang_up import HungUpError, unless_hung_up
from fettle.server.keeping import Asked, kept
from fettle.server.metrics import Metrics
from fettle.server.retrieving import look_up, retrieval_body, with_passages
from fettle.server.routed import answered_elsewhere, require_as_studied
from fettle.server.search_bodies import FileSearchTool
from fettle.store.database import now
from fettle.store.ids import new_id
from fettle.store.keys import Owner
from fettle.store.models import NoSuchModelError
from fettle.store.releases import NoSuchReleaseError
from fettle.version import fettle_version

router = APIRouter(prefix="/chat/completions", tags=["chat"])
_logger = logging.getLogger("fettle.server")
HUNG_UP = 499
_Indexed = tuple[int, ChoiceDelta]
"""A piece, and which choice it is of."""
_Deltas = AsyncGenerator[_Indexed, None]
_DONE = "data: [DONE]\n\n"
_Begun = TypeVar("_Begun")


@router.post("", responses={200: {"model": ChatCompletionBody, "content": {"text/event-stream": {}}}})
async def create(body: CreateChatCompletion, request: Request, context: ContextOf, owner: OwnerOf) -> Response:
    """Answer a conversation."""
    asked, started = body.as_request(), time.monotonic()
    try:
        question = question_of(owner, body, asked)
        answer = await unless_hung_up(request, begun(context, question))
        choices = answer.choices
        say_who_answers(request, answer)
        try:
            wants_log_probs = asked.num_top_log_probs is not None
            token_texts = _token_texts(answer.engine) if wants_log_probs and answer.engine else None
            frame = ChatFrame(
                id=new_id("chatcmpl-"),
                created=now(),
                model=body.model,
                system_fingerprint=await _fingerprint(context, answer.answering),
                release=answer.answering.release,
            )
            of_whom = Asked(
                completion_id=frame.id,
                owner=owner,
                model=body.model,
                request=asked,
                answering=answer.answering,
                ask_again=again(context, question),
                started=started,
            )
            deltas = kept(_measured(choices, context.metrics, started), of_whom, choices, context)
            if body.stream:
                writer = ChunkWriter(
                    frame=frame, wants_usage=body.wants_usage, token_texts=token_texts, retrieval=answer.retrieval
                )
                return await _streamed(request, writer, choices, deltas)
            return await unless_hung_up(request, _whole(frame, answer, deltas, token_texts))
        except BaseException:
            give_up_all(choices)
            raise
    except HungUpError:
        return Response(status_code=HUNG_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and of whom."""

    owner: Owner
    """Who asks."""
    name: str
    """A model's, an alias or a release's."""
    request: ChatRequest
    search: FileSearchTool | None
    """What the request wants to be searched."""
    chooses_temperature: bool
    """Whether the request names one; else a release writes the likeliest answer, as in its study."""
    may_evict: bool = True
    """Whether a base model that is idle may leave memory for it."""


class Asking(Protocol):
    """As much of a body as says what is asked of whom."""

    @property
    def model(self) -> str:
        """A model's name, an alias or a release's."""
        ...

    @property
    def search(self) -> FileSearchTool | None:
        """What is to be searched."""
        ...

    @property
    def temperature(self) -> float | None:
        """None: it names none."""
        ...


def question_of(owner: Owner, body: Asking, asked: ChatRequest) -> Question:
    """What a body asks."""
    return Question(
        owner=owner,
        name=body.model,
        request=asked,
        search=body.search,
        chooses_temperature=body.temperature is not None,
    )


async def begun(context: Context, question: Question) -> BegunAnswer:
    """The choices being written; where the model has to be loaded first, or an index opened, that takes its time."""
    first = await _unless_cancelled(context.chat_threads.submit(_begin, context, question))
    if isinstance(first, BegunAnswer):
        return first
    errand = Errand(request=question.request)
    try:
        return await _unless_cancelled(
            context.routed_threads.submit(answered_elsewhere, context, question.owner, first, errand)
        )
    except asyncio.CancelledError:
        errand.give_up()
        raise


async def _unless_cancelled(begun: Future[_Begun]) -> _Begun:
    """What has begun in a thread; where nobody waits for it any more, it is given up as soon as it has."""
    try:
        return await asyncio.shield(asyncio.wrap_future(begun))
    except asyncio.CancelledError:
        begun.add_done_callback(_give_up_what_was_begun)
        raise


def again(context: Context, question: Question) -> Callable[[str], Sequence[Choice]]:
    """How the same is asked of another name, once, in the thread that calls it; no base model leaves memory for it."""

    def ask(name: str) -> Sequence[Choice]:
        one = replace(question.request, num_choices=1)
        first = _begin(context, replace(question, name=name, request=one, may_evict=False))
        if isinstance(first, BegunAnswer):
            return first.choices
        return answered_elsewhere(context, question.owner, first, Errand(request=one, is_unseen=True)).choices

    return ask


def _begin(context: Context, question: Question) -> BegunAnswer | Answering:
    """The choices; or who answers, where that is a router or an endpoint, which take their time.

    Where a challenger cannot begin (its model does not load, the request is none that it was studied with), who is in force does.
    """
    answering = _answering(context, question)
    if answering.assigned is None or not answering.assigned.by_challenger:
        return _begun_by(context, answering, question)
    try:
        return _begun_by(context, answering, question)
    except (ApiError, FettleError) as error:  # faults of the server were recorded, those of the request are told below
        _logger.warning("the challenger of %s does not begin, and is left out: %s", question.name, type(error).__name__)
        return _begun_by(context, _answering(context, question, is_challenged=False), question)


def _begun_by(context: Context, answering: Answering, question: Question) -> BegunAnswer | Answering:
    asked, search, chooses_temperature = question.request, question.search, question.chooses_temperature
    served = answering.model
    if served is None:
        require_as_studied(asked, search, chooses_temperature=chooses_temperature)
        return answering
    retrieval = look_up(context, question.owner, answering, asked, search)
    if answering.contender is not None:
        asked = as_asked(asked, answering.contender, chooses_temperature=chooses_temperature)
    try:
        with context.engines.engine_of(served, may_evict=question.may_evict) as engine:
            if retrieval is not None:
                asked, retrieval = with_passages(engine, asked, retrieval)
            choices = begin_chat(engine, asked, adapter=served.name if served.adapter else None)
            return BegunAnswer(engine=engine, choices=choices, retrieval=retrieval, answering=answering)
    except NoSuchModelError:
        raise
    except ContextLengthError as error:
        raise invalid(error.describe(), "messages", "context_length_exceeded") from error
    except DataError as error:
        raise invalid(error.describe(), "messages") from error
    except ConfigError as error:
        of_form = "response_format" if asked.text_form else "tools" if asked.rules else None
        param = error.where if error.where in CreateChatCompletion.model_fields else of_form
        raise ApiError(error.describe(), code="invalid_value", param=param) from error
    except (ModelError, IntegrityError) as error:  # who asks can do nothing about it, and is not told where it lies
        _logger.error("the model %s cannot be served", question.name, exc_info=error)
        raise ApiError(
            f"The model `{question.name}` cannot be loaded. What is wrong was recorded.", status=500
        ) from error


def _answering(context: Context, question: Question, *, is_challenged: bool = True) -> Answering:
    """Who answers to a name: asked for once, unless a challenger cannot begin, which is then left out (`is_challenged`)."""
    name, owner, asked = question.name, question.owner, question.request
    key = assignment_key(asked.messages, key_id=owner.key_id, end_user=asked.end_user) if is_challenged else None
    try:
        return context.answering.find(name, owner.project_id, key)
    except NoSuchReleaseError as error:
        raise NoSuchModelError(name) from error
    except ChangedReleaseError as error:
        _logger.error("the release %s is refused", name, exc_info=error)
        message = f"The release `{name}` is not what was signed, and is not served. What is wrong was recorded."
        raise ApiError(message, status=500) from error


def say_who_answers(request: Request, answer: BegunAnswer) -> None:
    """Put the release into the answer's headers, where one answers."""
    if (release := answer.answering.release) is not None:
        headers = {"x-fettle-release": f"{release.name}@{release.number}"}
        request.state.answer_headers = {**request.state.answer_headers, **headers}


def _give_up_what_was_begun(begun: Future[Any]) -> None:
    if begun.cancelled() or begun.exception() is not None:
        return
    if isinstance(answer := begun.result(), BegunAnswer):
        give_up_all(answer.choices)


async def _fingerprint(context: Context, answering: Answering) -> str:
    """Of what answers; hashing weights, once, takes seconds."""

    def fingerprint() -> str:
        if answering.model is not None:
            return answering.model.fingerprint
        signed = None if answering.router is None else answering.router.content_sha256
        return f"fp_{sha256_of_json([fettle_version(), signed])[:12]}"

    return await asyncio.wrap_future(context.chat_threads.submit(fingerprint))


async def _whole(frame: ChatFrame, answer: BegunAnswer, deltas: _Deltas, token_texts: TokenTexts | None) -> Response:
    collected = [WholeChoice() for _ in answer.choices]
    async for index, delta in deltas:
        collected[index].add(delta)
    bodies = [choice.body(index, token_texts) for index, choice in enumerate(collected)]
    body = frame.body("chat.completion", bodies) | {"usage": usage_body(answer.choices)}
    if answer.retrieval is not None:
        body["retrieval"] = retrieval_body(answer.retrieval, [choice.text for choice in collected])
    return JSONResponse(body)


async def _streamed(request: Request, writer: ChunkWriter, choices: Sequence[Choice], deltas: _Deltas) -> Response:
    """A stream. What goes wrong before anything is written is an answer of its own."""
    first = await unless_hung_up(request, anext(deltas))
    return StreamingResponse(_events(writer, choices, first, deltas), media_type="text/event-stream")


async def _events(
    writer: ChunkWriter, choices: Sequence[Choice], first: _Indexed, deltas: _Deltas
) -> AsyncIterator[str]:
    try:
        for index in range(len(choices)):
            yield _event(writer.first(index))
        for chunk in writer.of(*first):
            yield _event(chunk)
        async for index, delta in deltas:
            for chunk in writer.of(index, delta):
                yield _event(chunk)
        if writer.wants_usage:
            yield _event(writer.usage(choices))
        yield _DONE
    except FettleError as error:
        answer = api_error(error)
        if answer.status >= 500:
            _logger.error("a stream failed: %s", type(error).__name__, exc_info=error)
        yield _event(answer.body.model_dump())
    finally:
        give_up_all(choices)
        await deltas.aclose()


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def _measured(choices: Sequence[Choice], metrics: Metrics, started: float) -> _Deltas:
    """What all choices say; how long the first piece took, and how many tokens they all are, is counted."""
    is_first = True
    try:
        async with aclosing(_merged(choices)) as deltas:
            async for indexed in deltas:
                if is_first:
                    metrics.on_first_token(time.monotonic() - started)
                    is_first = False
                yield indexed
    finally:
        num_written = sum(choice.num_tokens for choice in choices)
        metrics.on_tokens(num_read=choices[0].num_prompt_tokens, num_written=num_written)


async def _merged(choices: Sequence[Choice]) -> _Deltas:
    """What all choices say, in the order in which it is said; each with its choice's index."""
    arrived: asyncio.Queue[_Indexed | BaseException | None] = asyncio.Queue()

    async def read(index: int, choice: Choice) -> None:
        try:
            async for delta in choice:
                arrived.put_nowait((index, delta))
            arrived.put_nowait(None)
        except Exception as error:  # told where it is read
            arrived.put_nowait(error)

    tasks = [asyncio.create_task(read(index, choice)) for index, choice in enumerate(choices)]
    num_open = len(tasks)
    try:
        while num_open:
            match await arrived.get():
                case None:
                    num_open -= 1
                case BaseException() as error:
                    raise error
                case delta:
                    yield delta
    finally:
        for task in tasks:
            task.cancel()


def _token_texts(engine: ServingEngine) -> TokenTexts:
    @lru_cache(maxsize=4096)
    def texts(token_id: int) -> tuple[str, bytes]:
        raw = engine.token_bytes(token_id)
        return raw.decode(errors="replace"), raw

    return texts
