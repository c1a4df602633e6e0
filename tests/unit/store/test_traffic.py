"""Kept requests: by whom, for how long, and that they are gone then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete

from fettle.errors import ConfigError
from fettle.store.database import Store, now
from fettle.store.ids import new_id
from fettle.store.keys import create_key, revoke_key
from fettle.store.pages import PageRequest
from fettle.store.release_tables import kept_requests
from fettle.store.traffic import (
    Feedback,
    KeptRequest,
    NoSuchCompletionError,
    TrafficRule,
    add_feedback,
    add_kept,
    count_traffic,
    expiry,
    feedback_on,
    find_kept,
    forget,
    list_feedback,
    list_rules,
    read_kept,
    remove_expired,
    remove_rule,
    set_rule,
)

SECRET_WORD = "zanzibar-parcel-nobody-else-writes"


def kept(project_id: str, **values: Any) -> KeptRequest:
    plain = KeptRequest(
        id=new_id("chatcmpl-"),
        project_id=project_id,
        key_id="key_1",
        model="tiny",
        request={"messages": [{"role": "user", "content": "Where is it?"}]},
        answer={"role": "assistant", "content": "On its way."},
        finish_reason="stop",
        confidence=-0.25,
        num_prompt_tokens=7,
        num_completion_tokens=3,
        seconds=0.5,
        is_redacted=True,
        created_at=now(),
        expires_at=now() + 60,
    )
    return replace(plain, **values)


def said_of(request: KeptRequest, **values: Any) -> Feedback:
    plain = Feedback(
        id=new_id("fdbk_"),
        project_id=request.project_id,
        completion_id=request.id,
        score=1.0,
        corrected_answer=None,
        comment=None,
        created_at=now(),
    )
    return replace(plain, **values)


def write(store: Store, *rows: KeptRequest | Feedback) -> None:
    with store.writing() as connection:
        add_kept(connection, [row for row in rows if isinstance(row, KeptRequest)])
        for row in rows:
            if isinstance(row, Feedback):
                add_feedback(connection, row)


@pytest.fixture
def project(store: Store) -> str:
    return create_key(store, "first")[1].project_id


def test_what_is_kept_is_read_again(store: Store, project: str) -> None:
    request = kept(project, release={"name": "triage", "number": 3, "contender": "tuned"})
    without = kept(project, request=None, answer=None, confidence=None)
    write(store, request, without)
    with store.reading() as connection:
        assert replace(find_kept(connection, project, request.id), number=0) == request
        assert [replace(one, number=0) for one in read_kept(connection, project)] == [request, without]


def test_a_rule_is_of_one_key_and_replaces_the_one_before(store: Store) -> None:
    key = create_key(store, "first")[1]
    set_rule(store, TrafficRule(key_id=key.id, num_days=30))
    set_rule(store, TrafficRule(key_id=key.id, num_days=7, share=0.1, redacts=False))
    with store.reading() as connection:
        assert list_rules(connection) == {key.id: TrafficRule(key_id=key.id, num_days=7, share=0.1, redacts=False)}
    assert remove_rule(store, key.id)
    assert not remove_rule(store, key.id)
    with store.reading() as connection:
        assert list_rules(connection) == {}


def test_a_rule_counts_days() -> None:
    assert expiry(TrafficRule(key_id="key_1", num_days=30), 1_000) == 1_000 + 30 * 24 * 3600


@pytest.mark.parametrize(
    "values", [{"num_days": 0}, {"num_days": 4000}, {"share": 0.0}, {"share": 1.5}, {"key_id": "key_x"}]
)
def test_rules_that_cannot_be_are_refused(store: Store, values: dict[str, Any]) -> None:
    key = create_key(store, "first")[1]
    with pytest.raises(ConfigError):
        set_rule(store, replace(TrafficRule(key_id=key.id, num_days=30), **values))


def test_a_revoked_key_gets_no_rule(store: Store) -> None:
    key = create_key(store, "first")[1]
    revoke_key(store, key.id)
    with pytest.raises(ConfigError, match="in use"):
        set_rule(store, TrafficRule(key_id=key.id, num_days=30))


def test_projects_see_their_own_alone(store: Store, project: str) -> None:
    other = create_key(store, "second", "other")[1].project_id
    request = kept(project)
    write(store, request, said_of(request))
    with store.reading() as connection:
        assert read_kept(connection, other) == ()
        assert list_feedback(connection, other, PageRequest(limit=10)).items == ()
        assert count_traffic(connection, other).num_requests == 0
        with pytest.raises(NoSuchCompletionError):
            find_kept(connection, other, request.id)
    assert forget(store, other) == 0
    with store.reading() as connection:
        assert count_traffic(connection, project).num_requests == 1


def test_what_has_expired_is_seen_no_more_and_deleted_by_the_next_sweep(store: Store, project: str) -> None:
    old, young = kept(project, expires_at=now() - 1), kept(project)
    write(store, old, young, said_of(old), said_of(young))
    with store.reading() as connection:
        assert [one.id for one in read_kept(connection, project)] == [young.id]
        assert [one.completion_id for one in list_feedback(connection, project, PageRequest(limit=9)).items] == [
            young.id
        ]
        with pytest.raises(NoSuchCompletionError):
            find_kept(connection, project, old.id)
    assert remove_expired(store) == 1
    assert remove_expired(store) == 0
    with store.reading() as connection:
        assert feedback_on(connection, [old.id]) == {}
        assert len(feedback_on(connection, [young.id])[young.id]) == 1


def test_what_is_deleted_is_not_left_in_the_files(store: Store, project: str) -> None:
    if store.is_postgresql:
        pytest.skip("its vacuum frees the place")
    texts = {"messages": [{"role": "user", "content": SECRET_WORD * 400}]}
    old = kept(project, request=texts, expires_at=now() - 1)
    write(store, old, said_of(old, comment=SECRET_WORD))
    assert SECRET_WORD.encode() in files_of(store)
    assert remove_expired(store) == 1
    assert SECRET_WORD.encode() not in files_of(store)


def files_of(store: Store) -> bytes:
    return b"".join(path.read_bytes() for path in store.home.glob("fettle.sqlite*"))


def test_who_reads_an_older_state_stops_no_writer_and_keeps_nothing_for_ever(store: Store, project: str) -> None:
    if store.is_postgresql:
        pytest.skip("the log is SQLite's")
    write(store, kept(project, request={"messages": [{"role": "user", "content": SECRET_WORD}]}))
    waits = []
    with store.snapshot() as reader:
        assert list_rules(reader) == {}
        with store.reading() as connection:
            waits.append(connection.exec_driver_sql("PRAGMA busy_timeout").scalar())
        assert forget(store, project) == 1
        assert not store.empty_log()
    with store.reading() as connection:
        waits.append(connection.exec_driver_sql("PRAGMA busy_timeout").scalar())
    assert waits[0] == waits[1], "only the emptying of the log gives up early"
    assert SECRET_WORD.encode() in files_of(store)
    assert remove_expired(store) == 0
    assert SECRET_WORD.encode() not in files_of(store)


def test_what_is_asked_to_be_forgotten_is(store: Store, project: str) -> None:
    first, second = kept(project, created_at=100), kept(project, created_at=200, key_id="key_2")
    third = kept(project, created_at=300)
    write(store, first, second, third, said_of(first))
    assert forget(store, project, before=150) == 1
    assert forget(store, project, key_id="key_2") == 1
    assert forget(store, project, completion_id="chatcmpl-unknown") == 0
    with store.reading() as connection:
        assert [one.id for one in read_kept(connection, project)] == [third.id]
        assert feedback_on(connection, [first.id]) == {}
    assert forget(store, project) == 1


def test_requests_are_read_on_from_where_one_was(store: Store, project: str) -> None:
    rows = [kept(project, created_at=100 + n, model="a" if n % 2 else "b") for n in range(5)]
    write(store, *rows)
    with store.reading() as connection:
        first = read_kept(connection, project, limit=2)
        rest = read_kept(connection, project, after=first[-1].number)
        assert [one.id for one in (*first, *rest)] == [one.id for one in rows]
        assert [one.id for one in read_kept(connection, project, since=103)] == [rows[3].id, rows[4].id]
        assert [one.id for one in read_kept(connection, project, model="a")] == [rows[1].id, rows[3].id]


def test_counts_tell_texts_from_none(store: Store, project: str) -> None:
    first = kept(project, created_at=100)
    write(store, first, kept(project, request=None, answer=None, created_at=200), said_of(first), said_of(first))
    with store.reading() as connection:
        counts = count_traffic(connection, project)
    assert (counts.num_requests, counts.num_with_texts, counts.num_feedback, counts.oldest_at) == (2, 1, 2, 100)


def test_feedback_comes_in_pages_and_by_completion(store: Store, project: str) -> None:
    first, second = kept(project), kept(project)
    write(store, first, second)
    said = [said_of(first, score=None, corrected_answer="No."), said_of(second, score=0.0), said_of(first)]
    write(store, *said)
    with store.reading() as connection:
        page = list_feedback(connection, project, PageRequest(limit=2, newest_first=False))
        assert page.items == tuple(said[:2])
        assert page.has_more
        assert list_feedback(connection, project, PageRequest(limit=2, after=said[1].id, newest_first=False)).items == (
            said[2],
        )
        of_first = list_feedback(connection, project, PageRequest(limit=5), completion_id=first.id)
        assert of_first.items == (said[2], said[0])
        assert feedback_on(connection, [first.id, second.id]) == {first.id: (said[0], said[2]), second.id: (said[1],)}


def test_a_deletion_that_fails_deletes_nothing(store: Store, project: str) -> None:
    request = kept(project)
    write(store, request)

    def fail_to_delete() -> None:
        with store.erasing() as connection:
            connection.execute(delete(kept_requests))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_to_delete()
    with store.reading() as connection:
        assert find_kept(connection, project, request.id).id == request.id
