"""What a running study or export says of itself; the terminal, a page or a log show it as they like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How far one stage is."""

    name: str
    """What is being done, in words: `few_shot answers the validation split`."""
    num_done: int
    num_total: int
    note: str = ""
    """What else is worth seeing, such as the loss."""


class Listener(Protocol):
    """Receives what is said."""

    def on_stage(self, stage: Stage) -> None:
        """A stage has come further."""
        ...

    def on_message(self, text: str) -> None:
        """Something worth telling once."""
        ...


class SilentListener:
    """Says nothing."""

    def on_stage(self, stage: Stage) -> None:
        """Nothing."""

    def on_message(self, text: str) -> None:
        """Nothing."""
