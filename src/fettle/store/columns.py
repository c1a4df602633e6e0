"""What all tables of the store are made of."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, String

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = String(64)
NAME = String(255)
NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only INTEGER PRIMARY KEY up by itself


def number() -> Column[int]:
    """Grows from row to row: pages are cut by it."""
    return Column("number", NUMBER, primary_key=True, autoincrement=True)


def project() -> Column[str]:
    """Whose row it is."""
    return Column("project_id", ID, ForeignKey("projects.id"), nullable=False, index=True)
