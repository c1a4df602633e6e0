"""What routers spend on their large models in a day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "router_days",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("spent", sa.Float(53), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_router_days_project_id_projects")),
        sa.PrimaryKeyConstraint("project_id", "name", "day", name=op.f("pk_router_days")),
    )
    op.create_table(
        "router_reservations",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("amount", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_router_reservations_project_id_projects")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_router_reservations")),
    )
    op.create_index(op.f("ix_router_reservations_project_id"), "router_reservations", ["project_id"], unique=False)
    op.create_index("ix_router_reservations_name_day", "router_reservations", ["name", "day"], unique=False)


def downgrade() -> None:
    """To the version before."""
    op.drop_index("ix_router_reservations_name_day", table_name="router_reservations")
    op.drop_index(op.f("ix_router_reservations_project_id"), table_name="router_reservations")
    op.drop_table("router_reservations")
    op.drop_table("router_days")
