"""How often test examples have been looked at: a test split that choices were made on is no longer a test.

Counted by question, so that another seed, which cuts another test split from the same file, is another look at what both share.
"""

from __future__ import annotations

import fcntl
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fettle.errors import disk_errors_explained
from fettle.files import append_json_lines, read_json_lines
from fettle.statistics.multiplicity import level_at_look

_COUNT, _LOCK = "looks.jsonl", ".looks.lock"
_HASH_CHARACTERS = 16


def require_countable(home: Path) -> None:
    """Show that looks can be counted, before a study has taken its minutes.

    Raises:
        ConfigError: FETTLE_HOME cannot be written.
        DiskFullError: No space is left.
    """
    with disk_errors_explained(home / _COUNT):
        home.mkdir(parents=True, exist_ok=True)
        (home / _LOCK).touch()


@dataclass(frozen=True, slots=True)
class Looks:
    """The studies that have read answers to any question of a test split."""

    number: int
    """The place of this study among them, from 1."""
    total: int
    """How many there are by now, this one included."""

    @property
    def level(self) -> float:
        """The confidence level of this study's comparisons: 0.95 for the first, higher for those after it."""
        return level_at_look(self.number)


def count_look(home: Path, *, test_sha256: Collection[str], study_key: str) -> Looks:
    """Record that a study reads the answers of its test split.

    The same study continued after a kill, or run again later, keeps its number.

    Args:
        home: FETTLE_HOME, where the count is kept.
        test_sha256: Hash of each test question.
        study_key: Hash of the study's data and settings.
    """
    require_countable(home)
    file = home / _COUNT
    with disk_errors_explained(file):
        lock = (home / _LOCK).open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        questions = sorted(sha256[:_HASH_CHARACTERS] for sha256 in test_sha256)
        rows = [row for row in read_json_lines(file) if not set(questions).isdisjoint(row.get("questions", ()))]
        looked = [row["study_key"] for row in rows]
        if study_key not in looked:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            append_json_lines(file, [{"study_key": study_key, "at": now, "questions": questions}])
            looked.append(study_key)
        return Looks(number=looked.index(study_key) + 1, total=len(looked))
