"""Requests that are kept, and what users say of the answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "traffic_rules",
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("num_days", sa.Integer(), nullable=False),
        sa.Column("share", sa.Float(53), nullable=False),
        sa.Column("redacts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=op.f("fk_traffic_rules_key_id_keys"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_traffic_rules")),
    )
    op.create_table(
        "kept_requests",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("release", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("request", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("finish_reason", sa.String(length=16), nullable=False),
        sa.Column("confidence", sa.Float(53), nullable=True),
        sa.Column("num_prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("num_completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("is_redacted", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_kept_requests_project_id_projects")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_kept_requests")),
        sa.UniqueConstraint("id", name=op.f("uq_kept_requests_id")),
    )
    op.create_index(op.f("ix_kept_requests_project_id"), "kept_requests", ["project_id"], unique=False)
    op.create_index(op.f("ix_kept_requests_expires_at"), "kept_requests", ["expires_at"], unique=False)
    op.create_index("ix_kept_requests_project_number", "kept_requests", ["project_id", "number"], unique=False)
    op.create_table(
        "feedback",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("completion_id", sa.String(length=64), nullable=False),
        sa.Column("score", sa.Float(53), nullable=True),
        sa.Column("corrected_answer", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_feedback_project_id_projects")),
        sa.ForeignKeyConstraint(
            ["completion_id"],
            ["kept_requests.id"],
            name=op.f("fk_feedback_completion_id_kept_requests"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_feedback")),
        sa.UniqueConstraint("id", name=op.f("uq_feedback_id")),
    )
    op.create_index(op.f("ix_feedback_project_id"), "feedback", ["project_id"], unique=False)
    op.create_index(op.f("ix_feedback_completion_id"), "feedback", ["completion_id"], unique=False)


def downgrade() -> None:
    """To the version before."""
    op.drop_index(op.f("ix_feedback_completion_id"), table_name="feedback")
    op.drop_index(op.f("ix_feedback_project_id"), table_name="feedback")
    op.drop_table("feedback")
    op.drop_index("ix_kept_requests_project_number", table_name="kept_requests")
    op.drop_index(op.f("ix_kept_requests_expires_at"), table_name="kept_requests")
    op.drop_index(op.f("ix_kept_requests_project_id"), table_name="kept_requests")
    op.drop_table("kept_requests")
    op.drop_table("traffic_rules")
