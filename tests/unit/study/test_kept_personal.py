"""Hashes of the training examples' personal data, beside a study's answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fettle.errors import DataError
from fettle.examples.checks.personal import hashed
from fettle.records import Example, Location, Message
from fettle.study.kept_personal import keep_personal, kept_personal

SAID = "I am grace.hopper@navy.example, parcel LW27150392"


def example(text: str) -> Example:
    said = (Message(role="user", content=text), Message(role="assistant", content="refund"))
    return Example(id=text, messages=said, source=Location(file="a.jsonl", line=1))


def named(folder: Path, key: str) -> None:
    (folder / "study.json").write_text(json.dumps({"format": "fettle-study", "key": key}))
    (folder / "answers").mkdir(exist_ok=True)


def test_what_is_kept_is_known_again_and_cannot_be_read(tmp_path: Path) -> None:
    named(tmp_path, "one")
    assert kept_personal(tmp_path) is None
    keep_personal([example(SAID), example("Nothing here")], tmp_path, key="one")
    kept = kept_personal(tmp_path)
    assert kept is not None
    assert {hashed("Grace.Hopper@navy.example"), hashed("lw 2715 0392")} <= kept
    keep_personal(
        [example("My customer number LW27150392 10 days ago"), example("KN-4711-0815-22")], tmp_path, key="one"
    )
    assert {hashed("LW27150392"), hashed("kn 4711081522")} <= (kept_personal(tmp_path) or set())
    written = "".join(path.read_text() for path in (tmp_path / "answers").iterdir())
    assert "hopper" not in written
    assert "27150392" not in written


@pytest.mark.parametrize("content", ["", "[]", '{"key": "one"}', '{"key": "other", "sha256": []}'])
def test_a_file_of_another_study_or_a_damaged_one_is_refused(tmp_path: Path, content: str) -> None:
    named(tmp_path, "one")
    (tmp_path / "answers" / "personal.json").write_text(content)
    with pytest.raises(DataError, match="training examples"):
        kept_personal(tmp_path)
