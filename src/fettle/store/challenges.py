"""Challenges of releases: what was agreed, whose answers were how good, and what was decided when.

What is agreed is written once. Outcomes and looks are added, in the transaction that also ends the challenge where they decide
it; who writes holds the challenge (`hold_challenge`), so that of two processes one decides. What the terms and a look say is
JSON here, to which `fettle.releases.challenge` gives its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from fettle.errors import ConfigError
from fettle.store.database import now
from fettle.store.release_tables import challenge_looks, challenge_outcomes, challenges, shadow_answers


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChallenge:
    """A challenge as it is kept."""

    id: str
    project_id: str
    name: str
    """Of the release that is challenged."""
    challenger_number: int
    incumbent_number: int
    """In force when it began; the challenge ends when another one comes into force."""
    terms: Mapping[str, Any]
    created_at: int
    who: str
    """Began it."""
    ended_at: int | None = None
    """None: it runs."""
    ended_by: str | None = None
    decision: str | None = None
    """None: it runs, or was ended before it was decided."""
    reason: str | None = None
    """Why it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOutcome:
    """How good an answer was, or both answers to one request."""

    completion_id: str
    assignment: str
    """A hash of the conversation or the user that was assigned by."""
    is_challenger: bool
    """Whose score it is; of a pair, True."""
    score: float
    """In [0, 1]; of a pair, the challenger's."""
    incumbent_score: float | None = None
    """In [0, 1]; None: it is no pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLook:
    """What the outcomes said when there were so many."""

    num_outcomes: int
    look: Mapping[str, Any]
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowAnswer:
    """What a challenger would have answered."""

    completion_id: str
    """Of the answer that the user got."""
    challenge_id: str
    answer: Mapping[str, Any]
    """The message."""
    finish_reason: str
    seconds: float


def add_challenge(connection: Connection, challenge: StoredChallenge) -> None:
    """Begin a challenge.

    Raises:
        ConfigError: Another one of the name runs.
    """
    try:
        connection.execute(
            insert(challenges).values(
                id=challenge.id,
                project_id=challenge.project_id,
                name=challenge.name,
                challenger_number=challenge.challenger_number,
                incumbent_number=challenge.incumbent_number,
                terms=dict(challenge.terms),
                created_at=challenge.created_at,
                who=challenge.who,
            )
        )
    except IntegrityError as error:
        raise ConfigError(
            f"a challenge of {challenge.name!r} runs already",
            remedy=f"`fettle release challenges {challenge.name}` shows it, `fettle release end-challenge` ends it",
        ) from error


def open_challenge(connection: Connection, project_id: str, name: str) -> StoredChallenge | None:
    """The challenge of a name that runs; None: none does."""
    where = (challenges.c.project_id == project_id, challenges.c.name == name, challenges.c.ended_at.is_(None))
    row = connection.execute(select(challenges).where(*where)).first()
    return None if row is None else _challenge(row)


def running_challenge(connection: Connection, challenge_id: str) -> StoredChallenge | None:
    """A challenge that runs; None: it has ended, or there is none."""
    where = (challenges.c.id == challenge_id, challenges.c.ended_at.is_(None))
    row = connection.execute(select(challenges).where(*where)).first()
    return None if row is None else _challenge(row)


def ended_challenge(connection: Connection, challenge_id: str) -> StoredChallenge | None:
    """A challenge that is over; None: it runs, or there is none."""
    where = (challenges.c.id == challenge_id, challenges.c.ended_at.is_not(None))
    row = connection.execute(select(challenges).where(*where)).first()
    return None if row is None else _challenge(row)


def hold_challenge(connection: Connection, challenge_id: str) -> StoredChallenge | None:
    """A challenge that runs, and that nobody else changes until this transaction is over; None: it has ended, or there is none."""
    where = (challenges.c.id == challenge_id, challenges.c.ended_at.is_(None))
    row = connection.execute(select(challenges).where(*where).with_for_update()).first()  # SQLite's writers take turns
    return None if row is None else _challenge(row)


def list_challenges(connection: Connection, project_id: str, name: str) -> tuple[StoredChallenge, ...]:
    """All challenges of a name, the first one first."""
    where = (challenges.c.project_id == project_id, challenges.c.name == name)
    rows = connection.execute(select(challenges).where(*where).order_by(challenges.c.number))
    return tuple(map(_challenge, rows))


def close_challenge(
    connection: Connection, challenge_id: str, *, who: str, reason: str, decision: str | None = None
) -> None:
    """Write down that a challenge that runs is over, and why."""
    where = (challenges.c.id == challenge_id, challenges.c.ended_at.is_(None))
    said = {"ended_at": now(), "ended_by": who, "reason": reason, "decision": decision}
    connection.execute(update(challenges).where(*where).values(said))


def add_outcome(connection: Connection, challenge_id: str, outcome: StoredOutcome) -> bool:
    """Have an outcome; False: this completion has one. To be called by who holds the challenge."""
    where = (
        challenge_outcomes.c.challenge_id == challenge_id,
        challenge_outcomes.c.completion_id == outcome.completion_id,
    )
    if connection.execute(select(challenge_outcomes.c.number).where(*where)).first() is not None:
        return False
    connection.execute(
        insert(challenge_outcomes).values(
            challenge_id=challenge_id,
            completion_id=outcome.completion_id,
            assignment=outcome.assignment,
            is_challenger=int(outcome.is_challenger),
            score=outcome.score,
            incumbent_score=outcome.incumbent_score,
            created_at=now(),
        )
    )
    return True


def outcomes_of(connection: Connection, challenge_id: str) -> tuple[StoredOutcome, ...]:
    """All outcomes, in the order in which they came."""
    where = challenge_outcomes.c.challenge_id == challenge_id
    rows = connection.execute(select(challenge_outcomes).where(where).order_by(challenge_outcomes.c.number))
    return tuple(
        StoredOutcome(
            completion_id=row.completion_id,
            assignment=row.assignment,
            is_challenger=bool(row.is_challenger),
            score=row.score,
            incumbent_score=row.incumbent_score,
        )
        for row in rows
    )


def add_look(connection: Connection, challenge_id: str, *, num_outcomes: int, look: Mapping[str, Any]) -> None:
    """Write down what outcomes said."""
    said = {"challenge_id": challenge_id, "num_outcomes": num_outcomes, "look": dict(look), "created_at": now()}
    connection.execute(insert(challenge_looks).values(said))


def looks_of(connection: Connection, challenge_id: str) -> tuple[StoredLook, ...]:
    """All looks, the first one first."""
    where = challenge_looks.c.challenge_id == challenge_id
    rows = connection.execute(select(challenge_looks).where(where).order_by(challenge_looks.c.number))
    return tuple(StoredLook(num_outcomes=row.num_outcomes, look=row.look, created_at=row.created_at) for row in rows)


def last_looks(connection: Connection, challenge_ids: Sequence[str]) -> dict[str, StoredLook]:
    """The last look at each of some challenges, by the challenge; those without a look are left out."""
    last = select(func.max(challenge_looks.c.number)).group_by(challenge_looks.c.challenge_id)
    where = (challenge_looks.c.number.in_(last), challenge_looks.c.challenge_id.in_(challenge_ids))
    return {
        row.challenge_id: StoredLook(num_outcomes=row.num_outcomes, look=row.look, created_at=row.created_at)
        for row in connection.execute(select(challenge_looks).where(*where))
    }


def add_shadow_answer(connection: Connection, answer: ShadowAnswer) -> None:
    """Keep what a challenger would have answered beside what was answered."""
    connection.execute(
        insert(shadow_answers).values(
            completion_id=answer.completion_id,
            challenge_id=answer.challenge_id,
            answer=dict(answer.answer),
            finish_reason=answer.finish_reason,
            seconds=answer.seconds,
            created_at=now(),
        )
    )


def shadow_answer_of(connection: Connection, completion_id: str) -> ShadowAnswer | None:
    """What a challenger would have answered; None: it was not asked, or has not answered yet."""
    row = connection.execute(select(shadow_answers).where(shadow_answers.c.completion_id == completion_id)).first()
    if row is None:
        return None
    return ShadowAnswer(
        completion_id=row.completion_id,
        challenge_id=row.challenge_id,
        answer=row.answer,
        finish_reason=row.finish_reason,
        seconds=row.seconds,
    )


def _challenge(row: Row[Any]) -> StoredChallenge:
    said = dict(row._mapping)
    del said["number"]
    return StoredChallenge(**said)
