"""An answer on its way from the thread that runs the model to the one that asked, or to an event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from fettle.errors import FettleError
from fettle.records import FinishReason, TokenLogProb


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some of an answer."""

    text: str
    log_probs: tuple[TokenLogProb, ...] = ()
    """Of the tokens of this text, where they are asked for."""
    finish_reason: FinishReason | None = None
    """In the last piece: why the answer ends."""
    num_tokens: int = 0
    """Of the answer so far, the end of turn included."""
    log_share: float | None = None
    """Of an answer that was taken from some texts, see `choices.log_share`; None: it was written."""


class AnswerStream:
    """An answer that is being written, piece by piece. Iterating waits for the next piece, in a thread or in an event loop."""

    def __init__(self, num_prompt_tokens: int) -> None:
        self.num_prompt_tokens = num_prompt_tokens
        self._pieces: queue.SimpleQueue[Piece | FettleError] = queue.SimpleQueue()
        self._is_given_up = threading.Event()
        self._tell: Callable[[], None] = lambda: None
        self._tell_given_up: Callable[[], object] = lambda: None

    def put(self, piece: Piece | FettleError) -> None:
        """Pass on what was written, or why nothing more will be; called by who writes."""
        self._pieces.put(piece)
        self._tell()

    def __iter__(self) -> Iterator[Piece]:
        """Pieces up to the last one, which says why the answer ends.

        Raises:
            FettleError: The answer could not be written.
        """
        is_whole = False
        while not is_whole:
            piece = _checked(self._pieces.get())
            is_whole = piece.finish_reason is not None
            yield piece

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """The same in an event loop, which goes on with other things while there is nothing to read: no thread waits.

        Raises:
            FettleError: The answer could not be written.
        """
        loop, has_come = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody reads any more
                loop.call_soon_threadsafe(has_come.set)

        self._tell = tell
        is_whole = False
        while not is_whole:
            try:
                piece = _checked(self._pieces.get_nowait())
            except queue.Empty:
                # What came before `_tell` was set lies in the queue; what comes from now on sets the event.
                await has_come.wait()
                has_come.clear()
                continue
            is_whole = piece.finish_reason is not None
            yield piece

    def whole(self) -> Piece:
        """Wait for the whole answer; all its pieces as one."""
        return joined(list(self))

    def give_up(self) -> None:
        """Say that nobody waits any more: the answer leaves at the next step."""
        self._is_given_up.set()
        self._tell_given_up()

    def when_given_up(self, tell: Callable[[], object]) -> None:
        """Have who writes told at once that nobody waits any more; to be said before the stream is handed out."""
        self._tell_given_up = tell

    @property
    def is_given_up(self) -> bool:
        """Nobody waits any more."""
        return self._is_given_up.is_set()


def joined(pieces: Sequence[Piece]) -> Piece:
    """All pieces of an answer as one."""
    return Piece(
        text="".join(piece.text for piece in pieces),
        log_probs=tuple(token for piece in pieces for token in piece.log_probs),
        finish_reason=pieces[-1].finish_reason,
        num_tokens=pieces[-1].num_tokens,
        log_share=pieces[-1].log_share,
    )


def _checked(piece: Piece | FettleError) -> Piece:
    if isinstance(piece, FettleError):
        raise piece
    return piece
