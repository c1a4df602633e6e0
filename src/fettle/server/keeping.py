"""Answered requests on their way to be kept: collected as they are written, and handed over when they are whole.

An answer that nobody waited for, or that failed, is not kept. Of several choices the first is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fettle.answering.chat import ChatRequest, Choice, ChoiceDelta
from fettle.examples.write import prompt_row
from fettle.records import Prompt
from fettle.server.chat_answers import WholeChoice
from fettle.store.database import now
from fettle.store.keys import Owner
from fettle.traffic.keeper import Answered, Keeper

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
    started: float = field(default_factory=time.monotonic)
    """By the monotonic clock."""


async def kept(
    deltas: AsyncGenerator[tuple[int, ChoiceDelta], None], asked: Asked, choices: Sequence[Choice], keeper: Keeper
) -> AsyncGenerator[tuple[int, ChoiceDelta], None]:
    """The pieces of an answer as they come; when the last one is through, the answer goes to the keeper."""
    collected = WholeChoice()
    async with aclosing(deltas):
        async for index, delta in deltas:
            if index == 0:
                collected.add(delta)
            yield index, delta
    _hand_over(asked, collected, choices, keeper)


async def kept_alone(
    deltas: AsyncGenerator[ChoiceDelta, None], asked: Asked, choice: Choice, keeper: Keeper
) -> AsyncGenerator[ChoiceDelta, None]:
    """The same of an answer with one choice."""
    collected = WholeChoice()
    async with aclosing(deltas):
        async for delta in deltas:
            collected.add(delta)
            yield delta
    _hand_over(asked, collected, [choice], keeper)


def _hand_over(asked: Asked, collected: WholeChoice, choices: Sequence[Choice], keeper: Keeper) -> None:
    try:
        keeper.take(_answered(asked, collected, choices))
    except Exception as error:  # the answer is whole, and is not to fail for this
        # the error's own text could hold some of the answer's
        _logger.error("a request could not be handed over to be kept: %s", type(error).__name__)


def _answered(asked: Asked, collected: WholeChoice, choices: Sequence[Choice]) -> Answered:
    request = asked.request
    message: dict[str, Any] = collected.body(0, None)["message"]
    log_probs = [one.log_prob for one in collected.log_probs]
    return Answered(
        completion_id=asked.completion_id,
        project_id=asked.owner.project_id,
        key_id=asked.owner.key_id,
        model=asked.model,
        request=prompt_row(Prompt(example_id="", messages=request.messages, tools=request.tools)),
        answer={key: value for key, value in message.items() if value is not None},
        finish_reason=collected.end.value,
        confidence=sum(log_probs) / len(log_probs) if log_probs else None,
        num_prompt_tokens=choices[0].num_prompt_tokens,
        num_completion_tokens=choices[0].num_tokens,
        seconds=time.monotonic() - asked.started,
        created_at=now(),
    )
