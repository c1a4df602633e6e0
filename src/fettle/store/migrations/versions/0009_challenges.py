"""Releases that challenge the one in force: what was agreed, outcomes, looks, and answers that nobody has seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "challenges",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("challenger_number", sa.Integer(), nullable=False),
        sa.Column("incumbent_number", sa.Integer(), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=255), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.String(length=255), nullable=True),
        sa.Column("decision", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_challenges_project_id_projects")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_challenges")),
        sa.UniqueConstraint("id", name=op.f("uq_challenges_id")),
    )
    op.create_index(op.f("ix_challenges_project_id"), "challenges", ["project_id"], unique=False)
    op.create_index(
        "uq_challenges_open",
        "challenges",
        ["project_id", "name"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "challenge_outcomes",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("challenge_id", sa.String(length=64), nullable=False),
        sa.Column("completion_id", sa.String(length=64), nullable=False),
        sa.Column("assignment", sa.String(length=64), nullable=False),
        sa.Column("is_challenger", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(53), nullable=False),
        sa.Column("incumbent_score", sa.Float(53), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["challenge_id"], ["challenges.id"], name=op.f("fk_challenge_outcomes_challenge_id_challenges")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_challenge_outcomes")),
        sa.UniqueConstraint("challenge_id", "completion_id", name=op.f("uq_challenge_outcomes_challenge_id")),
    )
    op.create_table(
        "challenge_looks",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("challenge_id", sa.String(length=64), nullable=False),
        sa.Column("num_outcomes", sa.Integer(), nullable=False),
        sa.Column("look", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["challenge_id"], ["challenges.id"], name=op.f("fk_challenge_looks_challenge_id_challenges")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_challenge_looks")),
    )
    op.create_index(op.f("ix_challenge_looks_challenge_id"), "challenge_looks", ["challenge_id"], unique=False)
    op.create_table(
        "shadow_answers",
        sa.Column("completion_id", sa.String(length=64), nullable=False),
        sa.Column("challenge_id", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("finish_reason", sa.String(length=16), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["completion_id"],
            ["kept_requests.id"],
            name=op.f("fk_shadow_answers_completion_id_kept_requests"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["challenge_id"], ["challenges.id"], name=op.f("fk_shadow_answers_challenge_id_challenges")
        ),
        sa.PrimaryKeyConstraint("completion_id", name=op.f("pk_shadow_answers")),
    )
    op.create_index(op.f("ix_shadow_answers_challenge_id"), "shadow_answers", ["challenge_id"], unique=False)


def downgrade() -> None:
    """To the version before."""
    op.drop_index(op.f("ix_shadow_answers_challenge_id"), table_name="shadow_answers")
    op.drop_table("shadow_answers")
    op.drop_index(op.f("ix_challenge_looks_challenge_id"), table_name="challenge_looks")
    op.drop_table("challenge_looks")
    op.drop_table("challenge_outcomes")
    op.drop_index("uq_challenges_open", table_name="challenges")
    op.drop_index(op.f("ix_challenges_project_id"), table_name="challenges")
    op.drop_table("challenges")
