"""Keeping must neither hold up an answer nor fail it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from databases import fresh_store
from fettle.errors import ResourceError
from fettle.store.database import Store, now
from fettle.store.keys import Key, create_key
from fettle.store.traffic import TrafficRule, read_kept, set_rule
from fettle.traffic.keeper import Answered, Keeper, as_kept


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def key(store: Store) -> Key:
    key = create_key(store, "test")[1]
    set_rule(store, TrafficRule(key_id=key.id, num_days=30))
    return key


def answered(key: Key, number: int = 0) -> Answered:
    return Answered(
        completion_id=f"chatcmpl-{number}",
        project_id=key.project_id,
        key_id=key.id,
        model="tiny",
        request={"messages": [{"role": "user", "content": "I am at grace@example.com"}]},
        answer={"role": "assistant", "content": "Thank you."},
        finish_reason="stop",
        confidence=None,
        num_prompt_tokens=5,
        num_completion_tokens=2,
        seconds=0.1,
        created_at=now(),
    )


class SlowStore(Store):
    """A database that answers nothing until it is let."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.is_let, self.is_reached = threading.Event(), threading.Event()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        self.is_reached.set()
        self.is_let.wait(60)
        with super().writing() as connection:
            yield connection


class AwayStore(Store):
    """A database that takes nothing."""

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        raise ResourceError("the database does not answer")
        yield  # pyright: ignore[reportUnreachable]


def kept_ids(store: Store, key: Key) -> list[str]:
    with store.reading() as connection:
        return [one.id for one in read_kept(connection, key.project_id)]


def test_what_is_taken_is_written_in_order(store: Store, key: Key) -> None:
    keeper = Keeper(store)
    for number in range(250):
        keeper.take(answered(key, number))
    assert keeper.wait_until_written(60)
    assert kept_ids(store, key) == [f"chatcmpl-{number}" for number in range(250)]
    assert (keeper.counts.num_kept, keeper.counts.num_dropped, keeper.counts.num_waiting) == (250, 0, 0)
    keeper.close()


def test_a_full_queue_drops_and_counts_and_nobody_waits(tmp_path: Path) -> None:
    home = tmp_path / "slow"
    prepared = Store(home)
    key = create_key(prepared, "test")[1]
    set_rule(prepared, TrafficRule(key_id=key.id, num_days=30))
    prepared.close()
    store = SlowStore(home)
    keeper = Keeper(store, most_waiting=3)
    keeper.take(answered(key, 0))
    assert store.is_reached.wait(60)
    for number in range(1, 6):
        keeper.take(answered(key, number))
    assert (keeper.counts.num_dropped, keeper.counts.num_waiting) == (2, 4)
    assert not keeper.wait_until_written(0.01)
    store.is_let.set()
    assert keeper.wait_until_written(60)
    assert kept_ids(store, key) == [f"chatcmpl-{number}" for number in range(4)]
    keeper.close()
    store.close()


def test_a_database_that_does_not_answer_is_counted_and_the_next_ones_are_tried(tmp_path: Path) -> None:
    prepared = Store(tmp_path)
    key = create_key(prepared, "test")[1]
    set_rule(prepared, TrafficRule(key_id=key.id, num_days=30))
    prepared.close()
    store = AwayStore(tmp_path)
    keeper = Keeper(store)
    for number in range(2):
        keeper.take(answered(key, number))
        assert keeper.wait_until_written(60)
    assert (keeper.counts.num_kept, keeper.counts.num_failed) == (0, 2)
    keeper.close()
    store.close()


def test_closing_writes_what_waits_and_takes_nothing_more(store: Store, key: Key) -> None:
    keeper = Keeper(store)
    for number in range(20):
        keeper.take(answered(key, number))
    keeper.close()
    keeper.take(answered(key, 99))
    assert len(kept_ids(store, key)) == 20
    assert keeper.counts.num_dropped == 1


def test_a_key_without_a_rule_keeps_nothing(store: Store, key: Key) -> None:
    other = create_key(store, "other")[1]
    keeper = Keeper(store)
    keeper.take(replace(answered(key), key_id=other.id))
    assert keeper.wait_until_written(60)
    assert kept_ids(store, key) == []
    keeper.close()


def test_a_rule_says_what_is_written(key: Key) -> None:
    one = answered(key)
    redacting = as_kept(one, TrafficRule(key_id=key.id, num_days=2))
    assert redacting.request == {"messages": [{"role": "user", "content": "I am at [email]"}]}
    assert redacting.expires_at == one.created_at + 2 * 86_400
    as_it_is = as_kept(one, TrafficRule(key_id=key.id, num_days=2, redacts=False))
    assert as_it_is.request == one.request
    assert as_kept(one, TrafficRule(key_id=key.id, num_days=2, share=1e-9)).request is None


def test_nothing_has_to_be_collected_for_a_key_that_is_known_to_keep_nothing(store: Store, key: Key) -> None:
    other = create_key(store, "other")[1]
    keeper = Keeper(store)
    assert keeper.keeps(key.id)
    assert keeper.keeps(other.id), "nobody has looked yet"
    keeper.take(answered(key))
    assert keeper.wait_until_written(60)
    assert keeper.keeps(key.id)
    assert not keeper.keeps(other.id)
    keeper.close()
