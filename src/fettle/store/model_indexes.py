"""Which index is searched before a model answers, project by project."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from fettle.store.database import now
from fettle.store.tables import model_indexes


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedIndex:
    """An index that a model answers with."""

    model: str
    """Its id, no alias."""
    project_id: str
    """Whose requests are answered with it: the index's."""
    index_id: str
    num_passages: int
    """Shown at most."""
    method: str
    """As of `fettle.retrieval.records.SearchMethod`."""
    reranker: str | None = None
    """By name; None: the order of the search."""
    max_tokens: int | None = None
    """Of all passages together, in tokens of the embedder; None: no bound."""
    abstention: str | None
    """What the model is told to say where the passages do not answer; None: nothing."""
    asks_for_citations: bool = True
    """Whether it is told to end its answer with the numbers of its passages."""
    system_begin: str | None = None
    """Where system messages ask, what they all begin with: the rest is searched for too (`fettle.retrieval.question.SystemPart`);
    None: what the user says alone is."""
    system_end: str = ""
    """What they all end with."""


def attach_index(connection: Connection, attached: AttachedIndex) -> None:
    """Let a model answer a project with an index, in place of another one."""
    detach_index(connection, attached.model, attached.project_id)
    connection.execute(
        insert(model_indexes).values(
            model=attached.model,
            project_id=attached.project_id,
            index_id=attached.index_id,
            num_passages=attached.num_passages,
            method=attached.method,
            reranker=attached.reranker,
            max_tokens=attached.max_tokens,
            abstention=attached.abstention,
            asks_for_citations=int(attached.asks_for_citations),
            system_begin=attached.system_begin,
            system_end=attached.system_end,
            created_at=now(),
        )
    )


def detach_index(connection: Connection, model: str, project_id: str) -> bool:
    """Let a model answer a project without an index; False: it does already."""
    where = (model_indexes.c.model == model, model_indexes.c.project_id == project_id)
    return bool(connection.execute(delete(model_indexes).where(*where)).rowcount)


def index_of_model(connection: Connection, model: str, project_id: str) -> AttachedIndex | None:
    """The index that a model answers a project with; None: it answers without."""
    where = (model_indexes.c.model == model, model_indexes.c.project_id == project_id)
    row = connection.execute(select(model_indexes).where(*where)).first()
    if row is None:
        return None
    return AttachedIndex(
        model=row.model,
        project_id=row.project_id,
        index_id=row.index_id,
        num_passages=row.num_passages,
        method=row.method,
        reranker=row.reranker,
        max_tokens=row.max_tokens,
        abstention=row.abstention,
        asks_for_citations=bool(row.asks_for_citations),
        system_begin=row.system_begin,
        system_end=row.system_end,
    )


def attached_indexes(connection: Connection) -> tuple[AttachedIndex, ...]:
    """All of them, of all projects."""
    rows = connection.execute(select(model_indexes.c.model, model_indexes.c.project_id).order_by(model_indexes.c.model))
    found = [index_of_model(connection, row.model, row.project_id) for row in rows.all()]
    return tuple(one for one in found if one is not None)
