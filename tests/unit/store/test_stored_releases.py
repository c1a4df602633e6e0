"""Releases in the store: numbers, events, and which one answers to a name."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError as DatabaseRefusal

from fettle.errors import ConfigError
from fettle.store.database import Store, now
from fettle.store.keys import ensure_project
from fettle.store.release_tables import releases
from fettle.store.releases import (
    NoSuchReleaseError,
    ReleaseEvent,
    ReleaseEventKind,
    StoredRelease,
    add_release,
    add_release_event,
    find_raw_release,
    find_release,
    has_releases,
    list_releases,
    next_number,
    number_before,
    number_in_force,
    numbers_in_force,
    release_history,
    releases_in_force,
)

PROMOTED, FORCED, BACK = ReleaseEventKind.PROMOTED, ReleaseEventKind.FORCED, ReleaseEventKind.ROLLED_BACK


def project_of(store: Store, name: str = "default") -> str:
    with store.writing() as connection:
        return ensure_project(connection, name).id


def stored(project_id: str, name: str, number: int) -> StoredRelease:
    return StoredRelease(
        project_id=project_id,
        name=name,
        number=number,
        created_at=now(),
        contender={"model": "tiny", "share": 0.1},
        evidence={"gates": []},
        content_sha256=f"{number}" * 64,
    )


def keep(store: Store, project_id: str, name: str, number: int) -> StoredRelease:
    release = stored(project_id, name, number)
    with store.writing() as connection:
        add_release(connection, release, who="ann")
    return release


def test_a_release_is_read_letter_by_letter_as_well(store: Store) -> None:
    project_id = project_of(store)
    keep(store, project_id, "triage", 1)
    with store.reading() as connection:
        raw, again = (find_raw_release(connection, project_id, "triage", 1) for _ in range(2))
        read = find_release(connection, project_id, "triage", 1)
        with pytest.raises(NoSuchReleaseError):
            find_raw_release(connection, project_id, "triage", 2)
    assert raw.decoded() == read
    assert raw == again
    with store.writing() as connection:
        connection.execute(update(releases).values(evidence={"gates": [], "scores": {"ä": 1.0}}))
    with store.reading() as connection:
        changed = find_raw_release(connection, project_id, "triage", 1)
    assert changed != raw
    assert changed.decoded().evidence == {"gates": [], "scores": {"ä": 1.0}}


def events(*what: tuple[ReleaseEventKind, int]) -> list[ReleaseEvent]:
    return [
        ReleaseEvent(name="triage", number=number, kind=kind, created_at=0, who="ann", reason=None, content_sha256="")
        for kind, number in what
    ]


def test_numbers_count_from_one_for_each_name_of_each_project(store: Store) -> None:
    ours, theirs = project_of(store), project_of(store, "other")
    first = keep(store, ours, "triage", 1)
    keep(store, ours, "triage", 2)
    keep(store, theirs, "triage", 1)
    with store.reading() as connection:
        assert next_number(connection, ours, "triage") == 3
        assert next_number(connection, ours, "replies") == 1
        assert next_number(connection, theirs, "triage") == 2
        assert find_release(connection, ours, "triage", 1) == first
        assert [one.number for one in list_releases(connection, ours)] == [1, 2]
        assert not has_releases(connection, theirs, "replies")
        with pytest.raises(NoSuchReleaseError, match="there is no release triage@2"):
            find_release(connection, theirs, "triage", 2)


def test_a_number_is_given_once(store: Store) -> None:
    ours = project_of(store)
    keep(store, ours, "triage", 1)
    with pytest.raises(DatabaseRefusal):
        keep(store, ours, "triage", 1)


def test_what_is_in_force_follows_from_the_events(store: Store) -> None:
    ours = project_of(store)
    releases = {number: keep(store, ours, "triage", number) for number in (1, 2)}
    with store.reading() as connection:
        assert number_in_force(connection, ours, "triage") is None
        assert releases_in_force(connection, ours) == ()
    for kind, number, expected in ((PROMOTED, 1, 1), (FORCED, 2, 2), (BACK, 1, 1)):
        with store.writing() as connection:
            add_release_event(connection, releases[number], kind, who="ben", reason="why")
        with store.reading() as connection:
            assert number_in_force(connection, ours, "triage") == expected
            assert releases_in_force(connection, ours) == (releases[expected],)
    with store.reading() as connection:
        history = release_history(connection, ours, "triage")
    created = ReleaseEventKind.CREATED
    assert [(one.kind, one.number) for one in history] == [
        (created, 1),
        (created, 2),
        (PROMOTED, 1),
        (FORCED, 2),
        (BACK, 1),
    ]
    assert (history[-1].who, history[-1].reason) == ("ben", "why")


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ([(PROMOTED, 1)], (1,)),
        ([(PROMOTED, 1), (PROMOTED, 2), (PROMOTED, 3)], (1, 2, 3)),
        ([(PROMOTED, 1), (PROMOTED, 2), (BACK, 1)], (1,)),
        ([(PROMOTED, 1), (PROMOTED, 2), (PROMOTED, 3), (BACK, 1), (PROMOTED, 4)], (1, 4)),
        ([(PROMOTED, 1), (PROMOTED, 2), (BACK, 1), (BACK, 2)], (2,)),
    ],
)
def test_a_release_that_was_rolled_back_is_not_gone_back_to(
    what: list[tuple[ReleaseEventKind, int]], line: tuple[int, ...]
) -> None:
    assert numbers_in_force(events(*what)) == line
    if len(line) > 1:
        assert number_before(events(*what), "triage") == line[-2]
    else:
        with pytest.raises(ConfigError, match="was in force before"):
            number_before(events(*what), "triage")


def test_a_row_can_be_changed_by_hand_and_the_hash_is_not(store: Store) -> None:
    ours = project_of(store)
    first = keep(store, ours, "triage", 1)
    with store.writing() as connection:
        connection.execute(update(releases).values(contender={"model": "another"}))
    with store.reading() as connection:
        found = find_release(connection, ours, "triage", 1)
    assert found.contender == {"model": "another"}
    assert found.content_sha256 == first.content_sha256
