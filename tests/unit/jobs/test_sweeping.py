"""What has had its time goes, whatever else fails."""

from __future__ import annotations

from pathlib import Path

from fettle.errors import ConfigError
from fettle.jobs.worker import sweep
from fettle.store.database import Store


def test_a_part_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    done: list[str] = []

    def refused(_store: Store) -> None:
        raise ConfigError("cannot be read", remedy="none")

    def faulty(_store: Store) -> None:
        raise ValueError

    def deletes(_store: Store) -> None:
        done.append("deleted")

    sweep(Store(tmp_path), [refused, faulty, deletes])
    assert done == ["deleted"]
