"""Which label was taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fettle.records import Answer, Example
from fettle.report_records import Confusion
from fettle.scoring.corpus import answered_texts
from fettle.scoring.label_reader import LabelReader


def confusion(
    contender: str,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    labels: Sequence[str],
    *,
    max_labels: int = 25,
) -> Confusion:
    """Counts of (wanted, answered) over the answers that can be judged.

    With more labels than `max_labels` and one, those that take part in most errors keep a row and a column each, in the order of
    `labels`, and the rest share the last row and the last column but `other`, named `(40 more labels)`. Errors among those stay
    in their shared cell, so its count is no count of right answers. Wanted labels outside `labels` are added to them.

    Raises:
        IntegrityError: Not exactly one answer per example.
        ValueError: `max_labels` is below 1.
    """
    if max_labels < 1:
        raise ValueError(f"max_labels must be at least 1, not {max_labels}")
    texts = answered_texts(examples, answers)
    reader = LabelReader(labels).with_unseen([wanted for wanted, _ in texts])
    pairs = Counter((reader.read(wanted), reader.read(answered)) for wanted, answered in texts)
    shown = _most_confused(reader.labels, pairs, max_labels)
    num_rest = len(reader.labels) - len(shown)
    rows = (*shown, f"({num_rest} more labels)") if num_rest else shown
    position: dict[str | None, int] = {label: row for row, label in enumerate(shown)}
    counts = [[0] * (len(rows) + 1) for _ in rows]
    for (wanted, answered), count in pairs.items():
        column = len(rows) if answered is None else position.get(answered, len(shown))
        counts[position.get(wanted, len(shown))][column] += count
    return Confusion(contender=contender, labels=rows, counts=tuple(tuple(row) for row in counts))


def _most_confused(labels: Sequence[str], pairs: Counter[tuple[str | None, str | None]], limit: int) -> tuple[str, ...]:
    """The `limit` labels with most errors, as wanted or as answered, in the order of `labels`."""
    if len(labels) <= limit + 1:
        return tuple(labels)
    num_errors: Counter[str | None] = Counter()
    for (wanted, answered), count in pairs.items():
        if wanted != answered:
            num_errors[wanted] += count
            num_errors[answered] += count
    worst = set(sorted(labels, key=lambda label: -num_errors[label])[:limit])
    return tuple(label for label in labels if label in worst)
