"""Models by name: base models, what was tuned from them, and aliases."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from fettle.errors import ConfigError, ModelError
from fettle.store.database import Store, now
from fettle.store.jobs import JobStatus
from fettle.store.tables import aliases, base_models, jobs, models

_FINAL = tuple(status.value for status in JobStatus if status.is_final)


class ModelKind(StrEnum):
    """What a base model does."""

    TEXT = "text"
    """It writes: it can be asked and tuned."""
    EMBEDDING = "embedding"
    """It turns texts into vectors, and nothing else."""


class NoSuchModelError(ModelError):
    """There is no model of this name, or it is another project's."""

    def __init__(self, name: str, *, known: Sequence[str] = ()) -> None:
        some = f" Models here are {', '.join(known[:4])}." if known else ""
        super().__init__(f"The model `{name}` does not exist or you do not have access to it.{some}")


class WrongModelKindError(ConfigError):
    """A model is asked for what models of its kind do not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A model that was trained elsewhere."""

    id: str
    """Short, without slash, space or colon."""
    source: str
    """As `models.resolve.resolve_model` takes it; of an embedding model, the name of its package."""
    created_at: int
    kind: ModelKind = ModelKind.TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedModel:
    """What a job made of a base model, at its end or at one of its checkpoints."""

    id: str
    project_id: str
    base: str
    """The base model's id."""
    base_sha256: str
    template_sha256: str
    """Of the chat template that it was trained with: it must be answered with the same."""
    folder: str
    """Its place below the store's folder of models."""
    is_adapter: bool
    """A PEFT adapter; else a whole model."""
    job_id: str | None
    step: int | None
    """Of a checkpoint; None: what the job ended with."""
    created_at: int


def folder_of(store: Store, model: TunedModel) -> Path:
    """Where its weights lie."""
    return store.models / model.folder


def put_base_model(connection: Connection, model_id: str, source: str, *, kind: ModelKind = ModelKind.TEXT) -> None:
    """Have a base model, in place of an earlier one of that name.

    Raises:
        ConfigError: The name is an alias.
    """
    if model_id in list_aliases(connection):
        raise ConfigError(f"{model_id!r} is an alias", remedy=f"`fettle models unalias {model_id}` removes it")
    values = {"source": source, "kind": kind.value}
    if not connection.execute(update(base_models).where(base_models.c.id == model_id).values(values)).rowcount:
        connection.execute(insert(base_models).values(id=model_id, created_at=now(), **values))


def remove_base_model(connection: Connection, model_id: str) -> None:
    """Serve a base model no longer; its files stay where they are.

    Raises:
        ConfigError: There is none of this name, or something needs it.
    """
    tuned = connection.execute(select(models.c.id).where(models.c.base == model_id).order_by(models.c.number))
    waiting = connection.execute(select(jobs.c.id, jobs.c.request).where(jobs.c.status.not_in(_FINAL)))
    needing = [row.id for row in tuned] + [row.id for row in waiting if row.request.get("base") == model_id]
    if needing:
        raise ConfigError(
            f"{model_id} is needed by {', '.join(needing)}", remedy="remove these models and cancel these jobs first"
        )
    if not connection.execute(delete(base_models).where(base_models.c.id == model_id)).rowcount:
        raise ConfigError(f"there is no base model {model_id!r}", remedy="`fettle models list` shows them")


def list_base_models(connection: Connection) -> tuple[BaseModel, ...]:
    """All of them, by name, whatever their kind."""
    return tuple(map(_base_record, connection.execute(select(base_models).order_by(base_models.c.id))))


def add_tuned_model(connection: Connection, model: TunedModel) -> None:
    """Have a tuned model whose weights lie in their place already."""
    connection.execute(
        insert(models).values(
            id=model.id,
            project_id=model.project_id,
            base=model.base,
            base_sha256=model.base_sha256,
            template_sha256=model.template_sha256,
            folder=model.folder,
            is_adapter=int(model.is_adapter),
            job_id=model.job_id,
            step=model.step,
            created_at=model.created_at,
        )
    )


def list_tuned_models(connection: Connection, project_id: str | None = None) -> tuple[TunedModel, ...]:
    """A project's tuned models, checkpoints included, the oldest first; None: of all projects."""
    wanted = select(models).order_by(models.c.number)
    if project_id is not None:
        wanted = wanted.where(models.c.project_id == project_id)
    return tuple(map(_record, connection.execute(wanted)))


def find_model(
    connection: Connection, project_id: str, name: str, *, kind: ModelKind | None = ModelKind.TEXT
) -> BaseModel | TunedModel:
    """What a name means to a project, aliases followed.

    Args:
        connection: To the database.
        project_id: Who asks.
        name: A model's, or an alias.
        kind: What the model is wanted for; None: it is only looked at.

    Raises:
        NoSuchModelError: It means nothing.
        WrongModelKindError: It means a model of another kind.
    """
    found = _find(connection, name, select(models).where(models.c.project_id == project_id), kind)
    has = found.kind if isinstance(found, BaseModel) else ModelKind.TEXT
    if kind is not None and has is not kind:
        does, wanted = ("embeds", "write") if has is ModelKind.EMBEDDING else ("writes", "embed")
        raise WrongModelKindError(
            f"The model `{found.id}` {does} texts and does not {wanted} them",
            remedy="`GET /v1/models` lists all models",
        )
    return found


def find_model_of_any_project(connection: Connection, name: str) -> BaseModel | TunedModel:
    """What a name means to who runs the server, aliases followed.

    Raises:
        NoSuchModelError: Nothing.
    """
    return _find(connection, name, select(models), None)


def _find(connection: Connection, name: str, among: Select[Any], kind: ModelKind | None) -> BaseModel | TunedModel:
    canonical = _canonical(connection, name)
    tuned = connection.execute(among.where(models.c.id == canonical)).first()
    if tuned is not None:
        return _record(tuned)
    bases = {model.id: model for model in list_base_models(connection)}
    by_source = {model.source: model for model in bases.values()}
    found = bases.get(canonical) or by_source.get(canonical)
    if found is None:  # told by the name that was asked for: what an alias stands for may be another project's
        raise NoSuchModelError(name, known=[model.id for model in bases.values() if kind in (None, model.kind)])
    return found


def base_of(connection: Connection, model: BaseModel | TunedModel) -> BaseModel:
    """The base model of a model.

    Raises:
        NoSuchModelError: It was taken off this server.
    """
    if isinstance(model, BaseModel):
        return model
    row = connection.execute(select(base_models).where(base_models.c.id == model.base)).first()
    if row is None:
        raise NoSuchModelError(model.base)
    return _base_record(row)


def remove_tuned_model(store: Store, project_id: str, name: str) -> TunedModel:
    """Delete a tuned model, from the disk as well; what the job says of it stays.

    Raises:
        NoSuchModelError: There is none of this name.
    """
    with store.writing() as connection:
        model = forget_tuned_model(connection, project_id, name)
    if model is None:
        raise NoSuchModelError(name)
    shutil.rmtree(folder_of(store, model), ignore_errors=True)
    return model


def forget_tuned_model(connection: Connection, project_id: str, name: str) -> TunedModel | None:
    """Delete a tuned model from the tables alone; None: there is none of this name."""
    row = connection.execute(select(models).where(models.c.project_id == project_id, models.c.id == name)).first()
    if row is None:
        return None
    connection.execute(delete(models).where(models.c.id == name))
    return _record(row)


def put_alias(connection: Connection, alias: str, target: str) -> None:
    """Let a name mean what another one means.

    Raises:
        ConfigError: The alias is the name of a model, or would lead back to itself.
    """
    if connection.execute(select(base_models.c.id).where(base_models.c.id == alias)).first() or alias.startswith("ft:"):
        raise ConfigError(f"{alias!r} is the name of a model already", remedy="choose another alias")
    if _canonical(connection, target) == alias:
        raise ConfigError(f"{target!r} leads back to {alias!r}", remedy="name a model that is no alias of this one")
    if not connection.execute(update(aliases).where(aliases.c.alias == alias).values(target=target)).rowcount:
        connection.execute(insert(aliases).values(alias=alias, target=target, created_at=now()))


def remove_alias(connection: Connection, alias: str) -> None:
    """Let a name mean nothing any more.

    Raises:
        ConfigError: It is no alias.
    """
    if not connection.execute(delete(aliases).where(aliases.c.alias == alias)).rowcount:
        raise ConfigError(f"there is no alias {alias!r}", remedy="`fettle models list` shows them")


def list_aliases(connection: Connection) -> dict[str, str]:
    """What each alias leads to."""
    rows = connection.execute(select(aliases).order_by(aliases.c.alias))
    return {row.alias: row.target for row in rows}


def _canonical(connection: Connection, name: str) -> str:
    known = list_aliases(connection)
    for _ in known:  # no alias leads back to itself
        name = known.get(name, name)
    return name


def _base_record(row: Row[Any]) -> BaseModel:
    return BaseModel(id=row.id, source=row.source, created_at=row.created_at, kind=ModelKind(row.kind))


def _record(row: Row[Any]) -> TunedModel:
    values = dict(row._mapping)
    del values["number"]
    values["is_adapter"] = bool(values["is_adapter"])
    return TunedModel(**values)
