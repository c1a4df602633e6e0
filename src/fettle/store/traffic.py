"""Requests that are kept with their answers, what users say of them, and for how long.

Nothing is kept unless a key has a rule. A row is gone from every look at the table from the second on in which it expires, and
from the disk at the next sweep (`remove_expired`): SQLite overwrites what it deletes and empties its log, PostgreSQL frees the
place at its next vacuum. Backups made before hold what they held.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select

from fettle.errors import ConfigError, FettleError, require_range
from fettle.store.database import Store, now
from fettle.store.pages import Page, PageRequest, read_page
from fettle.store.release_tables import feedback, kept_requests, shadow_answers, traffic_rules
from fettle.store.tables import keys

_SECONDS_A_DAY = 86_400
MOST_DAYS = 3650
_AT_ONCE = 500


class NoSuchCompletionError(FettleError):
    """A completion is named that was not kept, or not for this project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRule:
    """What is kept of a key's requests."""

    key_id: str
    num_days: int
    """Then it is deleted."""
    share: float = 1.0
    """Of requests whose texts are kept, in (0, 1]; of the others, what they took."""
    redacts: bool = True
    """Whether personal data are replaced before anything is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRequest:
    """A request and its answer."""

    id: str
    """Of the completion."""
    project_id: str
    key_id: str
    model: str
    """As it was asked for."""
    release: Mapping[str, Any] | None = None
    """Name, number and contender of the release that answered, and how it came to (`releases.arms`); None: no release did."""
    request: Mapping[str, Any] | None
    """Messages and tools; None: the texts are not kept."""
    answer: Mapping[str, Any] | None
    """The message; None where `request` is."""
    finish_reason: str
    confidence: float | None
    """Mean natural-log probability of the answer's tokens; None where the request did not ask for them."""
    num_prompt_tokens: int
    num_completion_tokens: int
    seconds: float
    """From the request to the last token."""
    is_redacted: bool
    created_at: int
    expires_at: int
    number: int = 0
    """Grows from request to request; 0: not written yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a user says of an answer."""

    id: str
    project_id: str
    completion_id: str
    score: float | None
    """In [0, 1]; None: not said."""
    corrected_answer: str | None
    """What it should have been."""
    comment: str | None
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficCounts:
    """How much is kept of a project."""

    num_requests: int
    num_with_texts: int
    num_feedback: int
    oldest_at: int | None
    """Unix seconds; None: there is none."""


def set_rule(store: Store, rule: TrafficRule) -> None:
    """Keep a key's requests from now on, in place of the rule that it had. What is kept already keeps its own time.

    Raises:
        ConfigError: There is no such key, it was revoked, or days or share are out of range.
    """
    require_range("--days", rule.num_days, low=1, high=MOST_DAYS)
    if not 0 < rule.share <= 1:
        raise ConfigError(
            f"expected a share above 0 and up to 1, and it is {rule.share:g}",
            where="--share",
            remedy="give the share of requests to keep, or --off to keep none",
        )
    with store.writing() as connection:
        known = select(keys.c.id).where(keys.c.id == rule.key_id, keys.c.revoked_at.is_(None))
        if connection.execute(known).first() is None:
            raise _no_such_key(rule.key_id)
        connection.execute(delete(traffic_rules).where(traffic_rules.c.key_id == rule.key_id))
        connection.execute(
            insert(traffic_rules).values(
                key_id=rule.key_id,
                num_days=rule.num_days,
                share=rule.share,
                redacts=int(rule.redacts),
                created_at=now(),
            )
        )


def remove_rule(store: Store, key_id: str) -> bool:
    """Keep nothing more of a key's requests; False: nothing was kept.

    Raises:
        ConfigError: There is no such key.
    """
    with store.writing() as connection:
        if connection.execute(select(keys.c.id).where(keys.c.id == key_id)).first() is None:
            raise _no_such_key(key_id)
        return bool(connection.execute(delete(traffic_rules).where(traffic_rules.c.key_id == key_id)).rowcount)


def list_rules(connection: Connection) -> dict[str, TrafficRule]:
    """All rules, by their keys' ids."""
    return {
        row.key_id: TrafficRule(key_id=row.key_id, num_days=row.num_days, share=row.share, redacts=bool(row.redacts))
        for row in connection.execute(select(traffic_rules))
    }


def expiry(rule: TrafficRule, created_at: int) -> int:
    """When what is kept by a rule is deleted, Unix seconds."""
    return created_at + rule.num_days * _SECONDS_A_DAY


def add_kept(connection: Connection, kept: Sequence[KeptRequest]) -> None:
    """Keep some requests."""
    if kept:
        connection.execute(insert(kept_requests), [_values(one) for one in kept])


def find_kept(connection: Connection, project_id: str, completion_id: str) -> KeptRequest:
    """A kept request.

    Raises:
        NoSuchCompletionError: There is none of that id in the project, or its time is over.
    """
    row = connection.execute(
        select(kept_requests).where(kept_requests.c.id == completion_id, *_alive(project_id))
    ).first()
    if row is None:
        raise NoSuchCompletionError(
            f"no completion {completion_id!r} is kept",
            where="completion_id",
            remedy="have the key's requests kept with `fettle keys keep-traffic`; what was answered before that is not known",
        )
    return _kept(row)


def read_kept(
    connection: Connection,
    project_id: str,
    *,
    after: int = 0,
    since: int = 0,
    model: str | None = None,
    limit: int = _AT_ONCE,
) -> tuple[KeptRequest, ...]:
    """Kept requests in the order in which they were written, without those whose time is over.

    Args:
        connection: To the database.
        project_id: Whose.
        after: The number of the last one that is known already.
        since: Unix seconds; those of before are left out.
        model: Asked for by this name; None: any.
        limit: At most so many.
    """
    where = [*_alive(project_id), kept_requests.c.number > after, kept_requests.c.created_at >= since]
    if model is not None:
        where.append(kept_requests.c.model == model)
    rows = connection.execute(select(kept_requests).where(*where).order_by(kept_requests.c.number).limit(limit))
    return tuple(_kept(row) for row in rows)


def add_feedback(connection: Connection, given: Feedback) -> None:
    """Write down what a user says."""
    connection.execute(
        insert(feedback).values(
            id=given.id,
            project_id=given.project_id,
            completion_id=given.completion_id,
            score=given.score,
            corrected_answer=given.corrected_answer,
            comment=given.comment,
            created_at=given.created_at,
        )
    )


def list_feedback(
    connection: Connection, project_id: str, page: PageRequest, *, completion_id: str | None = None
) -> Page[Feedback]:
    """A project's feedback, or that on one completion, without what is of completions whose time is over.

    Raises:
        UnknownPageError: The page is asked for after something that is not in this list.
    """
    alive = select(kept_requests.c.id).where(*_alive(project_id))
    where = [feedback.c.project_id == project_id, feedback.c.completion_id.in_(alive)]
    if completion_id is not None:
        where.append(feedback.c.completion_id == completion_id)
    return read_page(connection, feedback, where, page, _feedback)


def feedback_on(connection: Connection, completion_ids: Collection[str]) -> dict[str, tuple[Feedback, ...]]:
    """What was said of some completions, the oldest first, by the completion."""
    found: dict[str, tuple[Feedback, ...]] = {}
    wanted = sorted(completion_ids)
    for start in range(0, len(wanted), _AT_ONCE):
        of_these = feedback.c.completion_id.in_(wanted[start : start + _AT_ONCE])
        for row in connection.execute(select(feedback).where(of_these).order_by(feedback.c.number)):
            found[row.completion_id] = (*found.get(row.completion_id, ()), _feedback(row))
    return found


def count_traffic(connection: Connection, project_id: str) -> TrafficCounts:
    """How much is kept of a project."""
    counted = select(
        func.count(), func.count(kept_requests.c.finish_reason).filter(kept_requests.c.request.is_not(None)),
        func.min(kept_requests.c.created_at),
    ).where(*_alive(project_id))  # fmt: skip
    num_requests, num_with_texts, oldest_at = connection.execute(counted).one()
    alive = select(kept_requests.c.id).where(*_alive(project_id))
    num_feedback = connection.execute(
        select(func.count()).select_from(feedback).where(feedback.c.completion_id.in_(alive))
    ).scalar_one()
    return TrafficCounts(
        num_requests=num_requests, num_with_texts=num_with_texts, num_feedback=num_feedback, oldest_at=oldest_at
    )


def forget(
    store: Store,
    project_id: str,
    *,
    completion_id: str | None = None,
    key_id: str | None = None,
    before: int | None = None,
) -> int:
    """Delete kept requests of a project with their feedback, all of them or those for which all that is given holds; how many.

    Args:
        store: Where they are.
        project_id: Whose.
        completion_id: Of one alone.
        key_id: Made with this key.
        before: Unix seconds; those from then on stay.
    """
    where: list[ColumnElement[bool]] = [kept_requests.c.project_id == project_id]
    if completion_id is not None:
        where.append(kept_requests.c.id == completion_id)
    if key_id is not None:
        where.append(kept_requests.c.key_id == key_id)
    if before is not None:
        where.append(kept_requests.c.created_at < before)
    return _delete(store, where)


def remove_expired(store: Store) -> int:
    """Delete kept requests whose time is over, with their feedback; how many. What was deleted before leaves the log at last."""
    is_expired = kept_requests.c.expires_at <= now()
    with store.reading() as connection:
        if connection.execute(select(kept_requests.c.number).where(is_expired).limit(1)).first() is None:
            store.empty_log()
            return 0
    return _delete(store, [is_expired])


def _delete(store: Store, where: Sequence[ColumnElement[bool]]) -> int:
    """Delete requests and their feedback so that nothing can be read on the disk, as far as the database has it in its hands."""
    with store.erasing() as connection:
        gone = select(kept_requests.c.id).where(*where)
        connection.execute(delete(feedback).where(feedback.c.completion_id.in_(gone)))
        connection.execute(delete(shadow_answers).where(shadow_answers.c.completion_id.in_(gone)))
        return connection.execute(delete(kept_requests).where(*where)).rowcount


def _alive(project_id: str) -> tuple[ColumnElement[bool], ...]:
    return (kept_requests.c.project_id == project_id, kept_requests.c.expires_at > now())


def _no_such_key(key_id: str) -> ConfigError:
    return ConfigError(f"there is no key {key_id!r} in use", remedy="`fettle keys list` shows the ids")


def _values(kept: KeptRequest) -> dict[str, Any]:
    return {
        "id": kept.id,
        "project_id": kept.project_id,
        "key_id": kept.key_id,
        "model": kept.model,
        "release": None if kept.release is None else dict(kept.release),
        "request": None if kept.request is None else dict(kept.request),
        "answer": None if kept.answer is None else dict(kept.answer),
        "finish_reason": kept.finish_reason,
        "confidence": kept.confidence,
        "num_prompt_tokens": kept.num_prompt_tokens,
        "num_completion_tokens": kept.num_completion_tokens,
        "seconds": kept.seconds,
        "is_redacted": int(kept.is_redacted),
        "created_at": kept.created_at,
        "expires_at": kept.expires_at,
    }


def _kept(row: Row[Any]) -> KeptRequest:
    return KeptRequest(**{**row._mapping, "is_redacted": bool(row.is_redacted)})


def _feedback(row: Row[Any]) -> Feedback:
    return Feedback(
        id=row.id,
        project_id=row.project_id,
        completion_id=row.completion_id,
        score=row.score,
        corrected_answer=row.corrected_answer,
        comment=row.comment,
        created_at=row.created_at,
    )
