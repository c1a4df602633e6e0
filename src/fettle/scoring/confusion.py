"""Which label was taken for which."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.records import Answer, Example
from fettle.report_records import Confusion
from fettle.scoring.corpus import answered_texts
from fettle.scoring.label_reader import LabelReader


def confusion(
    contender: str, examples: Sequence[Example], answers: Sequence[Answer], labels: Sequence[str]
) -> Confusion:
    """Counts of (wanted, answered) over the answers that can be judged. Wanted labels outside `labels` are added to them.

    Raises:
        IntegrityError: Not exactly one answer per example.
    """
    texts = answered_texts(examples, answers)
    reader = LabelReader(labels).with_unseen([wanted for wanted, _ in texts])
    position: dict[str | None, int] = {label: row for row, label in enumerate(reader.labels)}
    counts = [[0] * (len(position) + 1) for _ in position]
    for wanted, answered in texts:
        column = position.get(reader.read(answered), len(position))
        counts[position[reader.read(wanted)]][column] += 1
    return Confusion(contender=contender, labels=tuple(reader.labels), counts=tuple(tuple(row) for row in counts))
