"""What is noticed about the data once the model is known: its context, and its chat template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fettle.examples.notes import info, warning
from fettle.records import Action, Example, Finding, TokenisedExample


def long_findings(examples: Sequence[Example]) -> Iterator[Finding]:
    """Examples that were left out because they are longer than the model takes."""
    note = warning(
        "longer-than-the-model",
        "the example is longer than the model takes",
        "shorten it, or name a model with a longer context",
    )
    for example in examples:
        yield replace(note, action=Action.LEFT_OUT).at(example.source)


def untrained_findings(examples: Sequence[Example], tokens: Sequence[TokenisedExample]) -> Iterator[Finding]:
    """Conversations of which the model's chat template keeps some answers from being learned, counted by file."""
    file_of = {example.id: example.source.file for example in examples}
    counts = Counter(file_of[row.example_id] for row in tokens if row.num_untrained_turns)
    for file, count in sorted(counts.items()):
        text = (
            f"earlier answers in {count:,} training conversations are read and not learned: the model's chat template writes "
            "them otherwise than the model would"
        )
        yield info("untrained-turns", text, "take thoughts out of these answers").about(file)
