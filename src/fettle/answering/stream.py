"""An answer on its way from the thread that runs the model to the one that asked."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from fettle.errors import FettleError
from fettle.records import FinishReason, TokenLogProb


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some of an answer."""

    text: str
    log_probs: tuple[TokenLogProb, ...] = ()
    """Of the tokens since the piece before, where they are asked for."""
    finish_reason: FinishReason | None = None
    """In the last piece: why the answer ends."""
    num_tokens: int = 0
    """Of the answer so far."""


class AnswerStream:
    """An answer that is being written, piece by piece. Iterating waits for the next piece."""

    def __init__(self, num_prompt_tokens: int) -> None:
        self.num_prompt_tokens = num_prompt_tokens
        self.pieces: queue.SimpleQueue[Piece | FettleError] = queue.SimpleQueue()
        """What was written and not read yet; an error ends it too."""
        self._is_given_up = threading.Event()

    def __iter__(self) -> Iterator[Piece]:
        """Pieces up to the last one, which says why the answer ends.

        Raises:
            FettleError: The answer could not be written.
        """
        while True:
            piece = self.pieces.get()
            if isinstance(piece, FettleError):
                raise piece
            yield piece
            if piece.finish_reason is not None:
                return

    def whole(self) -> Piece:
        """Wait for the whole answer; all its pieces as one."""
        pieces = list(self)
        return Piece(
            text="".join(piece.text for piece in pieces),
            log_probs=tuple(token for piece in pieces for token in piece.log_probs),
            finish_reason=pieces[-1].finish_reason,
            num_tokens=pieces[-1].num_tokens,
        )

    def give_up(self) -> None:
        """Say that nobody waits any more: the answer leaves at the next step."""
        self._is_given_up.set()

    @property
    def is_given_up(self) -> bool:
        """Nobody waits any more."""
        return self._is_given_up.is_set()
