"""The text of an answer while it is written: what can be given out already, and whether a stop text was reached."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

_INCOMPLETE = "\ufffd"
"""What decoders write for bytes that are no whole character yet."""
_MOST_HELD_TOKENS = 8
"""A character has at most four bytes; after so many tokens the bytes are no character at all."""


class TextStream:
    """Turns tokens into pieces of text. All pieces together are the answer, without the space around it.

    Args:
        decode: Gives the text of some tokens.
        stops: Texts before which the answer ends.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, [stop for stop in stops if stop]
        self._tokens: list[int] = []
        self._start = self._end = (
            0  # tokens that were decoded last: the next ones are decoded with them, since spaces depend on it
        )
        self._text, self._num_given = "", 0
        self.num_certain_tokens = 0
        """Tokens whose text was given out; those of a stop text never are."""
        self.has_stopped = False
        """A stop text was reached: what comes after is no part of the answer."""

    @property
    def text(self) -> str:
        """All of it so far."""
        return self._text.strip()

    def push(self, tokens: Sequence[int], *, is_last: bool = False) -> str:
        """Take the next tokens, and give the piece of text that is certain by now; with the last ones, all that is left."""
        self._tokens += tokens
        before, now = self._decode(self._tokens[self._start : self._end]), self._decode(self._tokens[self._start :])
        is_whole = is_last or not now.endswith(_INCOMPLETE) or len(self._tokens) - self._end > _MOST_HELD_TOKENS
        if is_whole and not self.has_stopped:
            searched_from = max(0, len(self._text) - max(map(len, self._stops), default=0))
            self._text += now[len(before) :]
            self._start, self._end = self._end, len(self._tokens)
            found = [place for stop in self._stops if (place := self._text.find(stop, searched_from)) >= 0]
            if found:
                self._text, self.has_stopped = self._text[: min(found)], True
                self.num_certain_tokens = max(self.num_certain_tokens, self._num_tokens_of(self._text))
        num_held = 0 if is_last or self.has_stopped else self._num_held()
        if not num_held and not self.has_stopped:
            self.num_certain_tokens = self._end
        return self._given_up_to(len(self._text) - num_held)

    def _num_tokens_of(self, text: str) -> int:
        """The fewest tokens that hold a text, with which all of them begin."""
        return bisect_left(range(len(self._tokens)), len(text), key=lambda num: len(self._decode(self._tokens[:num])))

    def _num_held(self) -> int:
        """Characters at the end that may yet turn out to be the beginning of a stop text."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(1, min(len(stop), len(self._text) + 1))
                if self._text.endswith(stop[:length])
            ),
            default=0,
        )

    def _given_up_to(self, end: int) -> str:
        """The next piece, up to its last character that is no space: space at either end of an answer is no part of it."""
        end = len(self._text[:end].rstrip())
        start = self._num_given or len(self._text) - len(self._text.lstrip())
        if end <= start:
            return ""
        self._num_given = end
        return self._text[start:end]
