"""Kinds of base models, and evals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """To this version."""
    with op.batch_alter_table("base_models", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(length=16), server_default="text", nullable=False))

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("eval_id", sa.String(length=64), nullable=True))
        batch_op.create_index(batch_op.f("ix_jobs_eval_id"), ["eval_id"], unique=False)

    op.create_table(
        "evals",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("data_source", sa.JSON(), nullable=False),
        sa.Column("criteria", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_evals_project_id_projects")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_evals")),
        sa.UniqueConstraint("id", name=op.f("uq_evals_id")),
    )
    op.create_index(op.f("ix_evals_project_id"), "evals", ["project_id"], unique=False)
    op.create_table(
        "eval_items",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("item", sa.JSON(), nullable=False),
        sa.Column("sample", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("results", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("status", sa.String(length=8), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["jobs.id"], name=op.f("fk_eval_items_run_id_jobs")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_eval_items")),
        sa.UniqueConstraint("id", name=op.f("uq_eval_items_id")),
        sa.UniqueConstraint("run_id", "position", name=op.f("uq_eval_items_run_id")),
    )
    op.create_index("ix_eval_items_run_number", "eval_items", ["run_id", "number"], unique=False)


def downgrade() -> None:
    """To the version before."""
    op.drop_index("ix_eval_items_run_number", table_name="eval_items")
    op.drop_table("eval_items")
    op.drop_index(op.f("ix_evals_project_id"), table_name="evals")
    op.drop_table("evals")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_eval_id"))
        batch_op.drop_column("eval_id")

    with op.batch_alter_table("base_models", schema=None) as batch_op:
        batch_op.drop_column("kind")
