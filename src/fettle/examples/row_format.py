"""The interface between a row and a conversation; `row_formats/` holds one implementation per shape of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fettle.examples.notes import Note
from fettle.records import Message, Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a row knows about its right answer beside the answer itself."""

    document_ids: tuple[str, ...] | None = None
    """The documents that answer it; None: the row does not say."""
    references: tuple[str, ...] = ()
    """Other right answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a row says: an example before it has a place and a unique name."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    id: str | None = None
    group: str | None = None
    truth: Truth = field(default_factory=Truth)
    notes: tuple[Note, ...] = ()


class RowFormat(Protocol):
    """One shape of a row."""

    name: str

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether the row has this shape, told by its keys."""
        ...

    def convert(self, values: Mapping[str, Any]) -> Conversation:
        """The row as a conversation that ends with the wanted answer.

        Raises:
            UnusableRowError: The row cannot be an example.
        """
        ...
