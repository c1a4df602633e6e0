"""Whether what a system message asks is searched for, and which part of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this version."""
    op.add_column("model_indexes", sa.Column("system_begin", sa.Text()))
    op.add_column("model_indexes", sa.Column("system_end", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """To the version before."""
    op.drop_column("model_indexes", "system_end")
    op.drop_column("model_indexes", "system_begin")
