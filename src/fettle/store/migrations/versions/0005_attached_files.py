"""Files that are attached to indexes, and indexes that are attached to models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "index_attempts",
        sa.Column("document_number", _NUMBER, nullable=False),
        sa.Column("num_attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_number"],
            ["index_documents.number"],
            name=op.f("fk_index_attempts_document_number_index_documents"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("document_number", name=op.f("pk_index_attempts")),
    )
    op.create_table(
        "index_batches",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("index_id", sa.String(length=64), nullable=False),
        sa.Column("file_ids", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["index_id"], ["indexes.id"], name=op.f("fk_index_batches_index_id_indexes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_index_batches")),
        sa.UniqueConstraint("id", name=op.f("uq_index_batches_id")),
    )
    op.create_index(op.f("ix_index_batches_index_id"), "index_batches", ["index_id"], unique=False)
    op.create_table(
        "model_indexes",
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("index_id", sa.String(length=64), nullable=False),
        sa.Column("num_passages", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("reranker", sa.Text(), nullable=True),
        sa.Column("max_tokens", sa.Integer(), nullable=True),
        sa.Column("abstention", sa.Text(), nullable=True),
        sa.Column("asks_for_citations", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_model_indexes_project_id_projects")),
        sa.ForeignKeyConstraint(
            ["index_id"], ["indexes.id"], name=op.f("fk_model_indexes_index_id_indexes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model", "project_id", name=op.f("pk_model_indexes")),
    )
    op.create_index(op.f("ix_model_indexes_index_id"), "model_indexes", ["index_id"], unique=False)


def downgrade() -> None:
    """To the version before."""
    op.drop_index(op.f("ix_model_indexes_index_id"), table_name="model_indexes")
    op.drop_table("model_indexes")
    op.drop_index(op.f("ix_index_batches_index_id"), table_name="index_batches")
    op.drop_table("index_batches")
    op.drop_table("index_attempts")
