"""The tables of what comes after a study: releases, budgets of routers, kept traffic, feedback, challenges; see `tables.py`."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from fettle.store.columns import ID, NAME, metadata, number, project

releases = Table(  # rows are never changed: `release_events` say what became of them
    "releases",
    metadata,
    number(),
    project(),
    Column("name", NAME, nullable=False),
    Column("release_number", Integer, nullable=False),  # from 1 for each name
    Column("created_at", BigInteger, nullable=False),
    Column("contender", JSON, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("content_sha256", String(64), nullable=False),
    UniqueConstraint("project_id", "name", "release_number"),
)

release_events = Table(
    "release_events",
    metadata,
    number(),
    project(),
    Column("name", NAME, nullable=False),
    Column("release_number", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("who", NAME, nullable=False),
    Column("reason", Text),
    Column("content_sha256", String(64), nullable=False),
)

router_days = Table(  # what the routers of a name have spent on their large models
    "router_days",
    metadata,
    Column("project_id", ID, ForeignKey("projects.id"), primary_key=True),
    Column("name", NAME, primary_key=True),
    Column("day", String(10), primary_key=True),  # of UTC, YYYY-MM-DD
    Column("spent", Float(53), nullable=False),  # in the user's currency
)

router_reservations = Table(  # what requests that are under way may spend
    "router_reservations",
    metadata,
    number(),
    project(),
    Column("name", NAME, nullable=False),
    Column("day", String(10), nullable=False),
    Column("amount", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False),  # by the database's clock; then the amount counts as spent
)

traffic_rules = Table(  # whose requests are kept; a key without a row: none
    "traffic_rules",
    metadata,
    Column("key_id", ID, ForeignKey("keys.id", ondelete="CASCADE"), primary_key=True),
    Column("num_days", Integer, nullable=False),
    Column("share", Float(53), nullable=False),  # of requests that are kept with their texts; the others are without
    Column("redacts", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

kept_requests = Table(  # their ids are those of the completions
    "kept_requests",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    project(),
    Column("key_id", ID, nullable=False),
    Column("model", NAME, nullable=False),  # as it was asked for
    Column("release", JSON(none_as_null=True)),  # name, number and contender of what answered; null: no release
    Column("request", JSON(none_as_null=True)),  # messages and tools; null: the texts are not kept
    Column("answer", JSON(none_as_null=True)),  # a message
    Column("finish_reason", String(16), nullable=False),
    Column("confidence", Float(53)),  # mean log-probability of the answer's tokens; null: not asked for
    Column("num_prompt_tokens", BigInteger, nullable=False),
    Column("num_completion_tokens", BigInteger, nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("is_redacted", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

feedback = Table(
    "feedback",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    project(),
    Column("completion_id", ID, ForeignKey("kept_requests.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("score", Float(53)),
    Column("corrected_answer", Text),
    Column("comment", Text),
    Column("created_at", BigInteger, nullable=False),
)

challenges = Table(  # what was agreed is never changed; a row ends once
    "challenges",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    project(),
    Column("name", NAME, nullable=False),  # of the release that is challenged
    Column("challenger_number", Integer, nullable=False),
    Column("incumbent_number", Integer, nullable=False),
    Column("terms", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("who", NAME, nullable=False),
    Column("ended_at", BigInteger),
    Column("ended_by", NAME),
    Column("decision", String(16)),  # null: not decided
    Column("reason", Text),  # why it has ended
)

challenge_outcomes = Table(  # they stay when the request that they are of is deleted: what was decided rests on them
    "challenge_outcomes",
    metadata,
    number(),
    Column("challenge_id", ID, ForeignKey("challenges.id"), nullable=False),
    Column("completion_id", ID, nullable=False),
    Column("assignment", String(64), nullable=False),  # a hash of the conversation or the user
    Column("is_challenger", Integer, nullable=False),
    Column("score", Float(53), nullable=False),
    Column("incumbent_score", Float(53)),  # of a pair; null: the outcome of one answer
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("challenge_id", "completion_id"),
)

challenge_looks = Table(
    "challenge_looks",
    metadata,
    number(),
    Column("challenge_id", ID, ForeignKey("challenges.id"), nullable=False, index=True),
    Column("num_outcomes", Integer, nullable=False),
    Column("look", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

shadow_answers = Table(  # beside the answer that the user got, and gone with it
    "shadow_answers",
    metadata,
    Column("completion_id", ID, ForeignKey("kept_requests.id", ondelete="CASCADE"), primary_key=True),
    Column("challenge_id", ID, ForeignKey("challenges.id"), nullable=False, index=True),
    Column("answer", JSON, nullable=False),  # a message
    Column("finish_reason", String(16), nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

Index("ix_release_events_name_number", release_events.c.name, release_events.c.number)
Index("ix_router_reservations_name_day", router_reservations.c.name, router_reservations.c.day)
Index(
    "uq_challenges_open",  # one challenge of a name at a time
    challenges.c.project_id,
    challenges.c.name,
    unique=True,
    sqlite_where=challenges.c.ended_at.is_(None),
    postgresql_where=challenges.c.ended_at.is_(None),
)
Index("ix_kept_requests_project_number", kept_requests.c.project_id, kept_requests.c.number)
