"""Answered requests on their way to be kept: collected as they are written, and handed over when they are whole.

An answer that nobody waited for, or that failed, is not kept. Of several choices the first is. Nothing is collected for keys whose
requests are not kept. Where a challenger answers unseen beside the one that did, it is asked after that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fettle.answering.chat import ChatRequest, Choice, ChoiceDelta, give_up_all
from fettle.examples.write import prompt_row
from fettle.records import Prompt
from fettle.releases.arms import kept_release
from fettle.releases.catalogue import Answering
from fettle.releases.records import ReleaseAnswered
from fettle.server.chat_answers import WholeChoice
from fettle.server.context import Context
from fettle.server.shadowing import Beside, WrittenAnswer
from fettle.store.database import now
from fettle.store.keys import Owner
from fettle.traffic.keeper import Answered

_logger = logging.getLogger("fettle.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that is being answered, as far as it is kept."""

    completion_id: str
    owner: Owner
    model: str
    """As it was asked for."""
    request: ChatRequest
    """Without the passages that were found for it."""
    answering: Answering
    """Who answers."""
    ask_again: Callable[[str], Sequence[Choice]]
    """Asks the same of another name; to be called where waiting is no harm."""
    started: float = field(default_factory=time.monotonic)
    """By the monotonic clock."""


async def kept(
    deltas: AsyncGenerator[tuple[int, ChoiceDelta], None], asked: Asked, choices: Sequence[Choice], context: Context
) -> AsyncGenerator[tuple[int, ChoiceDelta], None]:
    """The pieces of an answer as they come; when the last one is through, the answer goes to the keeper."""
    collected = WholeChoice() if context.keeper.keeps(asked.owner.key_id) else None
    async with aclosing(deltas):
        async for index, delta in deltas:
            if collected is not None and index == 0:
                collected.add(delta)
            yield index, delta
    if collected is not None:
        _hand_over(asked, collected, choices, context)


async def kept_alone(
    deltas: AsyncGenerator[ChoiceDelta, None], asked: Asked, choice: Choice, context: Context
) -> AsyncGenerator[ChoiceDelta, None]:
    """The same of an answer with one choice."""
    collected = WholeChoice() if context.keeper.keeps(asked.owner.key_id) else None
    async with aclosing(deltas):
        async for delta in deltas:
            if collected is not None:
                collected.add(delta)
            yield delta
    if collected is not None:
        _hand_over(asked, collected, [choice], context)


def _hand_over(asked: Asked, collected: WholeChoice, choices: Sequence[Choice], context: Context) -> None:
    try:
        context.keeper.take(_answered(asked, collected, choices))
        side, release = asked.answering.assigned, asked.answering.release
        if side is not None and side.beside and release is not None:
            beside = Beside(
                completion_id=asked.completion_id,
                project_id=asked.owner.project_id,
                challenge_id=side.challenge_id,
                ask=partial(_written, asked.ask_again, f"{release.name}@{side.challenger}"),
            )
            context.shadows.take(beside)
    except Exception as error:  # the answer is whole, and is not to fail for this
        # the error's own text could hold some of the answer's
        _logger.error("a request could not be handed over to be kept: %s", type(error).__name__)


def _written(
    ask_again: Callable[[str], Sequence[Choice]], name: str, is_wanted: Callable[[], bool]
) -> WrittenAnswer | None:
    """What another name answers to the same; None: nobody waits any more."""
    choices = ask_again(name)
    try:
        return asyncio.run(_collected(choices[0], is_wanted))
    finally:
        give_up_all(choices)


async def _collected(choice: Choice, is_wanted: Callable[[], bool]) -> WrittenAnswer | None:
    collected = WholeChoice()
    async for delta in choice:
        if not is_wanted():
            return None
        collected.add(delta)
    return WrittenAnswer(message=_message(collected), finish_reason=collected.end.value)


def _message(collected: WholeChoice) -> dict[str, Any]:
    message: dict[str, Any] = collected.body(0, None)["message"]
    return {key: value for key, value in message.items() if value is not None}


def _answered(asked: Asked, collected: WholeChoice, choices: Sequence[Choice]) -> Answered:
    request = asked.request
    release = asked.answering.release
    return Answered(
        completion_id=asked.completion_id,
        project_id=asked.owner.project_id,
        key_id=asked.owner.key_id,
        model=asked.model,
        release=None if release is None else kept_release(release, asked.answering.assigned),
        request=prompt_row(Prompt(example_id="", messages=request.messages, tools=request.tools)),
        answer=_message(collected),
        finish_reason=collected.end.value,
        confidence=_confidence(release, collected),
        num_prompt_tokens=choices[0].num_prompt_tokens,
        num_completion_tokens=choices[0].num_tokens,
        seconds=time.monotonic() - asked.started,
        created_at=now(),
    )


def _confidence(release: ReleaseAnswered | None, collected: WholeChoice) -> float | None:
    """What the router of a release went by; else, of a label its log-share, of a text its tokens' mean log-probability, nats.

    None: nothing of it is known.
    """
    if release is not None and release.routed is not None:
        return release.routed.confidence
    if collected.log_share is not None:
        return collected.log_share
    log_probs = [one.log_prob for one in collected.log_probs]
    return sum(log_probs) / len(log_probs) if log_probs else None
