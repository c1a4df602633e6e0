"""Reading a label out of an answer: the same label in another dress is right, a label inside a sentence is not."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence


class LabelReader:
    """Reads answers as labels.

    Case, white space, and quotes or punctuation around the label do not matter, unless two labels of the set differ in nothing
    else (`C` and `C++`): then only as much is overlooked as keeps the labels apart.

    Args:
        labels: The label set, as written in the training answers.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(dict.fromkeys(labels))
        self._label_by_key = tuple(_unambiguous_keys(self.labels, form) for form in _FORMS)

    def read(self, text: str) -> str | None:
        """The label that `text` is, as the label set spells it; None when it is none of them.

        >>> reader = LabelReader(["refund", "Lost card?"])
        >>> reader.read(' "Refund." '), reader.read("lost  CARD"), reader.read("Label: refund")
        ('refund', 'Lost card?', None)
        """
        for form, label_by_key in zip(_FORMS, self._label_by_key, strict=True):
            if (label := label_by_key.get(form(text))) is not None:
                return label
        return None

    def matches(self, wanted: str, answered: str) -> bool:
        """Whether two texts are the same label; texts outside the label set are compared bare."""
        wanted_label, answered_label = self.read(wanted), self.read(answered)
        if wanted_label is None and answered_label is None:
            return _bare(wanted) == _bare(answered)
        return wanted_label == answered_label

    def with_unseen(self, wanted: Sequence[str]) -> LabelReader:
        """A reader that also knows the wanted answers outside the label set, such as a label that no training example had."""
        unseen = {_bare(text): text for text in reversed(wanted) if self.read(text) is None}
        return LabelReader((*self.labels, *sorted(unseen.values())))


def _plain(text: str) -> str:
    """Without surrounding and repeated white space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _folded(text: str) -> str:
    """Also without case."""
    return _plain(_plain(text).casefold())


def _bare(text: str) -> str:
    """Also without punctuation and symbols at either end; a text of nothing else keeps them."""
    folded = _folded(text)
    start, end = 0, len(folded)
    while start < end and _is_wrapping(folded[start]):
        start += 1
    while end > start and _is_wrapping(folded[end - 1]):
        end -= 1
    return folded[start:end] or folded


_FORMS: tuple[Callable[[str], str], ...] = (_plain, _folded, _bare)
"""How much is overlooked, least first."""


def _is_wrapping(character: str) -> bool:
    return character.isspace() or unicodedata.category(character)[0] in "PS"


def _unambiguous_keys(labels: Sequence[str], form: Callable[[str], str]) -> dict[str, str]:
    keys = [form(label) for label in labels]
    num_labels = Counter(keys)
    return {key: label for key, label in zip(keys, labels, strict=True) if num_labels[key] == 1}
