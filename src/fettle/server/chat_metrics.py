"""What chats tell the metrics: how long the first token took, and how many were read and written."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence

from fettle.answering.chat import Choice, ChoiceDelta
from fettle.server.metrics import Metrics

IndexedDelta = tuple[int, ChoiceDelta]
"""A piece, and which choice it is of."""


async def measured(
    deltas: AsyncGenerator[IndexedDelta, None], choices: Sequence[Choice], metrics: Metrics, started: float
) -> AsyncGenerator[IndexedDelta, None]:
    """The same pieces; the metrics are told of them, also where nobody waits for the end.

    Args:
        deltas: What all choices say.
        choices: Of one prompt.
        metrics: Are told.
        started: When the request came, of `time.monotonic`.
    """
    is_first = True
    try:
        async for delta in deltas:
            if is_first:
                metrics.on_first_token(time.monotonic() - started)
                is_first = False
            yield delta
    finally:
        await deltas.aclose()
        num_written = sum(choice.num_tokens for choice in choices)
        metrics.on_tokens(num_read=choices[0].num_prompt_tokens, num_written=num_written)
