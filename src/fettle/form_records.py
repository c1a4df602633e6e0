"""What a contender's answers are kept inside, and how they are read: frozen, plain data like `fettle.records`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """What answers are kept inside while they are written, so that a server can do as the study did."""

    labels: tuple[str, ...] = ()
    """One of these and nothing else; empty: no labels."""
    reading: str | None = None
    """How the label is read, a `contenders.readings.Reading`; None: written token by token, which is greedy decoding."""
    label_offsets: Mapping[str, float] = field(default_factory=dict)
    """Subtracted from each label's log-likelihood before the likeliest is taken, nats; empty: nothing is."""
    json_schema: str | None = None
    """A JSON Schema as JSON text; None: no JSON."""
    bounded_schema: str | None = None
    """As of `fettle.answering.engine.JsonForm`, like the other two; None: no bounds."""
    item_separator: str | None = None
    key_separator: str | None = None
