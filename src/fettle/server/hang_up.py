"""Clients that hang up while they wait: what is done for them is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

from fastapi import Request

_Result = TypeVar("_Result")


class HungUpError(Exception):
    """Nobody waits for the answer any more."""


async def unless_hung_up(request: Request, work: Awaitable[_Result]) -> _Result:
    """The result of some work, which is cancelled when the client hangs up.

    Raises:
        HungUpError: It has.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise HungUpError
    finally:
        for task in (working, gone):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
