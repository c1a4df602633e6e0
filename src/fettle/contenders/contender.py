"""The interface of every way to answer an example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fettle.records import Answer, Example, Message


class Contender(Protocol):
    """One way to answer an example. It is given the whole example, and must look at its prompt alone."""

    @property
    def name(self) -> str:
        """The key in reports: `prompt`, `few_shot`, `tuned`, ..."""
        ...

    @property
    def title(self) -> str:
        """What people call it."""
        ...

    @property
    def is_fine_tuned(self) -> bool:
        """True where a language model was trained on the examples."""
        ...

    def describe(self) -> str:
        """How it answers, with everything that was chosen for it, in words."""
        ...

    def told(self, example: Example) -> tuple[Message, ...]:
        """All that it is sent to answer an example; empty for one that is not prompted."""
        ...

    def is_shortened(self, example: Example) -> bool:
        """Whether the prompt lost shots or a hint because it was too long for the model."""
        ...

    def identity(self) -> str:
        """A text that changes whenever its answers could: kept with the answers, so that stale ones are never reused."""
        ...

    def batches(self, examples: Sequence[Example]) -> tuple[tuple[int, ...], ...]:
        """Indices into `examples` in the batches to answer them in; a function of the examples alone."""
        ...

    def answer(self, examples: Sequence[Example]) -> tuple[Answer, ...]:
        """One answer for each example of a batch, in order."""
        ...
