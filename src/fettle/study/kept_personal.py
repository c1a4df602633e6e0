"""Which personal data the training examples hold, as hashes, beside the report: whether a model repeats them can be told later.

Hashes of short numbers can be guessed by trying all of them, so the file is as private as the answers that it lies beside.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from fettle.errors import DataError
from fettle.examples.checks.personal import hashed, parts_of, personal_spans, references
from fettle.files import write_atomically
from fettle.records import Example
from fettle.study.workspace import study_key

_FILE = Path("answers") / "personal.json"


def keep_personal(train: Iterable[Example], folder: Path, *, key: str) -> None:
    """Keep the hashes of all personal data of a form that can be told, the firm's own references included.

    Args:
        train: The training examples.
        folder: The study's.
        key: The study's.
    """
    texts = (message.content for example in train for message in example.messages)
    found = {hashed(part) for text in texts for value in _values(text) for part in parts_of(value)}
    write_atomically(folder / _FILE, json.dumps({"key": key, "sha256": sorted(found)}) + "\n")


def _values(text: str) -> Iterator[str]:
    yield from (text[span.start : span.end] for span in personal_spans(text))
    yield from references(text)


def kept_personal(folder: Path) -> frozenset[str] | None:
    """The hashes; None: the study is of a version that kept none.

    Raises:
        DataError: The file is another study's, or was damaged.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        if content["key"] != study_key(folder):
            raise KeyError
        return frozenset(map(str, content["sha256"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the personal data of the training examples are not those that the study has kept",
            where=str(path),
            remedy="delete the file, and run the same `fettle study` command again: it keeps them anew",
        ) from error
