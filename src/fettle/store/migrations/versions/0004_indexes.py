"""Indexes of passages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "indexes",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_active_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_after_days", sa.Integer(), nullable=True),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("backend", sa.String(length=16), nullable=False),
        sa.Column("embedder", sa.Text(), nullable=False),
        sa.Column("embedder_revision", sa.Text(), nullable=False),
        sa.Column("num_dimensions", sa.Integer(), nullable=False),
        sa.Column("passage_tokens", sa.Integer(), nullable=False),
        sa.Column("overlap_tokens", sa.Integer(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("replaces", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_indexes_project_id_projects")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_indexes")),
        sa.UniqueConstraint("id", name=op.f("uq_indexes_id")),
    )
    op.create_index(op.f("ix_indexes_project_id"), "indexes", ["project_id"], unique=False)
    op.create_index("ix_indexes_project_number", "indexes", ["project_id", "number"], unique=False)
    op.create_table(
        "index_documents",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("index_id", sa.String(length=64), nullable=False),
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("file_id", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["index_id"], ["indexes.id"], name=op.f("fk_index_documents_index_id_indexes")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_index_documents")),
        sa.UniqueConstraint("index_id", "document_id", "status", name=op.f("uq_index_documents_index_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "passages",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("index_id", sa.String(length=64), nullable=False),
        sa.Column("document_number", _NUMBER, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("title_path", sa.JSON(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("num_tokens", sa.Integer(), nullable=False),
        sa.Column("text_hash", sa.String(length=32), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["index_id"], ["indexes.id"], name=op.f("fk_passages_index_id_indexes")),
        sa.ForeignKeyConstraint(
            ["document_number"], ["index_documents.number"], name=op.f("fk_passages_document_number_index_documents")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_passages")),
        sa.UniqueConstraint("document_number", "position", name=op.f("uq_passages_document_number")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_passages_index_number", "passages", ["index_id", "number"], unique=False)
    op.create_index("ix_passages_index_hash", "passages", ["index_id", "text_hash"], unique=False)


def downgrade() -> None:
    """To the version before."""
    for made_by_search in ("index_words", "index_generations", "passage_words", "passage_vectors"):
        op.execute(f"DROP TABLE IF EXISTS {made_by_search}")
    op.drop_index("ix_passages_index_hash", table_name="passages")
    op.drop_index("ix_passages_index_number", table_name="passages")
    op.drop_table("passages")
    op.drop_table("index_documents")
    op.drop_index("ix_indexes_project_number", table_name="indexes")
    op.drop_index(op.f("ix_indexes_project_id"), table_name="indexes")
    op.drop_table("indexes")
