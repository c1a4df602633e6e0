"""Requests to a release that a router or an endpoint answers: what they may ask for, and their answers, which are whole at once.

The promise of a router is about answers as its study asked for them: one to a request, the likeliest one, in the study's form. What
a request wants beyond that is refused by its field, and not passed over.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from fettle.answering.chat import ChatRequest, Choice
from fettle.answering.serving_engine import ServingEngine
from fettle.answering.stream import AnswerStream, Piece
from fettle.errors import ConfigError, IntegrityError, ModelError
from fettle.records import Answer
from fettle.releases.catalogue import Answering
from fettle.releases.records import Release, Routed, Router
from fettle.releases.routed import Errand
from fettle.routing.router import AnsweredBy, RoutedAnswer
from fettle.server.begun_answer import BegunAnswer
from fettle.server.context import Context
from fettle.server.errors import ApiError, invalid
from fettle.server.retrieving import Retrieval, look_up, with_passages
from fettle.server.search_bodies import FileSearchTool
from fettle.store.keys import Owner

_logger = logging.getLogger("fettle.server")


def require_as_studied(asked: ChatRequest, search: FileSearchTool | None, *, chooses_temperature: bool) -> None:
    """Refuse a request that wants more than the one answer that the study has asked for.

    Args:
        asked: The request.
        search: What it wants to be searched.
        chooses_temperature: Whether it names a temperature.

    Raises:
        ApiError: It wants more; it names the field.
    """
    sampling = asked.sampling
    wanted = {
        "n": asked.num_choices > 1,
        "tools": bool(asked.tools) or search is not None,
        "response_format": asked.text_form is not None,
        "logprobs": asked.num_top_log_probs is not None,
        "stop": bool(asked.stop),
        "temperature": chooses_temperature and sampling.temperature > 0,
        "logit_bias": bool(sampling.logit_bias),
        "presence_penalty": sampling.presence_penalty != 0,
        "frequency_penalty": sampling.frequency_penalty != 0,
    }
    for field, is_wanted in wanted.items():
        if is_wanted:
            raise invalid(
                f"`{field}` cannot be had of this model: it is a release that a router, or an endpoint, answers. It gives the one "
                "likeliest answer in the form of its study, which is what its evidence is about.",
                field,
            )


def answered_elsewhere(context: Context, owner: Owner, answering: Answering, errand: Errand) -> BegunAnswer:
    """The answer of a router or an endpoint, which is waited for: to be called in a thread of its own.

    Raises:
        RemoteError: Whoever should have answered has not.
        BusyError: The budget of the day is spent.
        FettleError: Nobody can answer.
    """
    release = answering.router
    if release is None or answering.release is None:
        raise ApiError("No release was asked for.", status=500)
    if not isinstance(release.contender, Router):
        choice = whole_choice(context.routed.ask(release, errand))
        return BegunAnswer(engine=None, choices=(choice,), retrieval=None, answering=answering)
    looking = _Looking(context, owner, release)
    errand.prepare = looking.prepared
    try:
        given = context.routed.route(release, errand)
    except (ConfigError, ModelError, IntegrityError) as error:  # who asks can do nothing about it
        _logger.error("the router %s cannot decide", release, exc_info=error)
        message = f"The router `{release}` cannot decide who answers. What is wrong was recorded."
        raise ApiError(message, status=500) from error
    context.metrics.on_routed(given.answered_by.value, given.reason.value)
    return BegunAnswer(
        engine=None,
        choices=(whole_choice(given.answer),),
        retrieval=looking.retrieval if given.answered_by is AnsweredBy.SMALL else None,
        answering=replace(answering, release=replace(answering.release, routed=_routed(given))),
    )


def whole_choice(answer: Answer) -> Choice:
    """An answer that is there already, as one that comes piece by piece."""
    stream = AnswerStream(answer.usage.prompt_tokens)
    num_tokens = answer.usage.completion_tokens
    stream.put(Piece(text=answer.text, finish_reason=answer.finish_reason, num_tokens=num_tokens))
    return Choice(stream, None)


class _Looking:
    """Looks up passages for a router's small contender, where it is shown some.

    Args:
        context: The server's.
        owner: Who asks.
        release: The router's.
    """

    def __init__(self, context: Context, owner: Owner, release: Release) -> None:
        self._context, self._owner, self._release = context, owner, release
        self.retrieval: Retrieval | None = None
        """What was found; None: nothing was looked for."""

    def prepared(self, engine: ServingEngine, asked: ChatRequest) -> ChatRequest:
        """The request with the passages."""
        router = self._release.contender
        if not isinstance(router, Router) or router.small.index is None:
            return asked
        model = self._context.answering.model_of(router.small, self._owner.project_id)
        answering = Answering(model=model, contender=router.small)
        found = look_up(self._context, self._owner, answering, asked, None)
        if found is None:
            return asked
        asked, self.retrieval = with_passages(engine, asked, found)
        return asked


def _routed(given: RoutedAnswer) -> Routed:
    confidence = given.confidence
    is_number = confidence is not None and math.isfinite(confidence)
    return Routed(
        answered_by=given.answered_by.value, reason=given.reason.value, confidence=confidence if is_number else None
    )
