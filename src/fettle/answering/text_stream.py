"""The text of an answer while it is written: what can be given out already, and whether a stop text was reached."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

_INCOMPLETE = "\ufffd"
"""What decoders write for bytes that are no whole character yet."""
_MOST_HELD_TOKENS = 8
"""A character has at most four bytes; after so many tokens the bytes are no character at all."""


class TextStream:
    """Turns tokens into pieces of text. All pieces together are the answer: the text of its tokens, with the space around it.

    Only the space that the chat template itself puts in front of every answer is left out, where the text begins with exactly that.
    Its token is counted: whoever shows tokens beside the text shows that space there.

    Args:
        decode: Gives the text of some tokens.
        stops: Texts before which the answer ends.
        space: What the template puts in front of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = (), *, space: str = "") -> None:
        self._decode, self._stops, self._space = decode, [stop for stop in stops if stop], space
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
        return self._text[self._num_skipped :]

    def push(self, tokens: Sequence[int], *, is_last: bool = False) -> str:
        """Take the next tokens, and give the piece of text that is certain by now; with the last ones, all that is left."""
        self._tokens += tokens
        before, now = self._decode(self._tokens[self._start : self._end]), self._decode(self._tokens[self._start :])
        is_whole = is_last or not now.endswith(_INCOMPLETE) or len(self._tokens) - self._end > _MOST_HELD_TOKENS
        if is_whole and not self.has_stopped:
            searched_from = len(self._text) - max(map(len, self._stops), default=0)
            self._text += now[len(before) :]
            searched_from = max(searched_from, self._num_skipped)
            self._start, self._end = self._end, len(self._tokens)
            found = [place for stop in self._stops if (place := self._text.find(stop, searched_from)) >= 0]
            if found:
                self._text, self.has_stopped = self._text[: min(found)], True
                self.num_certain_tokens = max(self.num_certain_tokens, self._num_tokens_of(self._text))
        num_held = 0 if is_last or self.has_stopped else self._num_held()
        if not num_held and not self.has_stopped:
            self.num_certain_tokens = self._end
        return self._given_up_to(len(self._text) - num_held)

    @property
    def _num_skipped(self) -> int:
        """Characters at the beginning that are the template's."""
        return len(self._space) if self._text.startswith(self._space) else 0

    def _num_tokens_of(self, text: str) -> int:
        """The fewest tokens that hold a text, with which all of them begin."""
        return bisect_left(range(len(self._tokens)), len(text), key=lambda num: len(self._decode(self._tokens[:num])))

    def _num_held(self) -> int:
        """Characters at the end that may yet turn out to be the template's, or the beginning of a stop text."""
        if self._space.startswith(self._text):
            return len(self._text)
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
        """The next piece."""
        start = max(self._num_given, self._num_skipped)
        if end <= start:
            return ""
        self._num_given = end
        return self._text[start:end]
