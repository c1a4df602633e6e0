"""How often each test split has been looked at: a test split that choices were made on is no longer a test."""

from __future__ import annotations

import fcntl
from datetime import UTC, datetime
from pathlib import Path

from fettle.errors import disk_errors_explained
from fettle.files import append_json_lines, read_json_lines

_COUNT, _LOCK = "looks.jsonl", ".looks.lock"


def require_countable(home: Path) -> None:
    """Show that looks can be counted, before a study has taken its minutes.

    Raises:
        ConfigError: FETTLE_HOME cannot be written.
        DiskFullError: No space is left.
    """
    with disk_errors_explained(home / _COUNT):
        home.mkdir(parents=True, exist_ok=True)
        (home / _LOCK).touch()


def count_look(home: Path, *, test_sha256: str, study_key: str) -> int:
    """Record that a study reads the answers of a test split; how many different studies have, this one included.

    The same study continued after a kill counts once.

    Args:
        home: FETTLE_HOME, where the count is kept.
        test_sha256: Hash of the test examples.
        study_key: Hash of the study's data and settings.
    """
    require_countable(home)
    file = home / _COUNT
    with disk_errors_explained(file):
        lock = (home / _LOCK).open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        seen = {row["study_key"] for row in read_json_lines(file) if row["test_sha256"] == test_sha256}
        if study_key not in seen:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            append_json_lines(file, [{"test_sha256": test_sha256, "study_key": study_key, "at": now}])
        return len(seen | {study_key})
