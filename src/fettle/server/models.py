"""Models: what can be asked and tuned, and what was tuned."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from fettle.releases.needed import NeededByReleaseError, require_unneeded
from fettle.server.context import Context, ContextOf, OwnerOf
from fettle.server.errors import ApiError
from fettle.server.wire import Deleted
from fettle.store import models as kept
from fettle.store.models import TunedModel, find_model, list_base_models, list_tuned_models, remove_tuned_model
from fettle.store.releases import StoredRelease, releases_in_force

router = APIRouter(prefix="/models", tags=["models"])
_OF_THE_SERVER = "system"


class ModelBody(BaseModel):
    """A model, as OpenAI's API shows it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


@router.get("")
def index(context: ContextOf, owner: OwnerOf) -> ModelList:
    """Base models, the project's tuned models, and the names of its releases that are in force."""
    with context.store.reading() as connection:
        everything = (*list_base_models(connection), *list_tuned_models(connection, owner.project_id))
        released = releases_in_force(connection, owner.project_id)
    models = [_body(model, context) for model in everything]
    return ModelList(data=models + [_release_body(release, context) for release in released])


@router.get("/{name:path}")
def show(name: str, context: ContextOf, owner: OwnerOf) -> ModelBody:
    """One model, or the release that answers to a name."""
    with context.store.reading() as connection:
        for release in releases_in_force(connection, owner.project_id):
            if release.name == name:
                return _release_body(release, context)
        return _body(find_model(connection, owner.project_id, name, kind=None), context)


@router.delete("/{name:path}")
def delete(name: str, context: ContextOf, owner: OwnerOf) -> Deleted:
    """Delete a tuned model, its weights included; refused where a release answers with it."""
    with context.store.reading() as connection:
        model = find_model(connection, owner.project_id, name, kind=None)
    if not isinstance(model, TunedModel):
        message = f"The model `{name}` is a base model, which only who runs the server can take off."
        raise ApiError(message, status=403, code="insufficient_permissions", param="model")
    try:
        with context.store.reading() as connection:
            require_unneeded(connection, model=model.id, project_id=owner.project_id, remedy="")
    except NeededByReleaseError as error:
        raise ApiError(error.describe(), code="model_in_use", param="model") from error
    context.engines.forget(context.catalogue.find(model.id, owner.project_id))
    remove_tuned_model(context.store, owner.project_id, model.id)
    return Deleted(id=model.id, object="model")


def _release_body(release: StoredRelease, context: Context) -> ModelBody:
    """The release in force under its name; `created` is when it was made."""
    return ModelBody(id=release.name, created=release.created_at, owned_by=context.settings.organization_id)


def _body(model: kept.BaseModel | TunedModel, context: Context) -> ModelBody:
    owner = context.settings.organization_id if isinstance(model, TunedModel) else _OF_THE_SERVER
    return ModelBody(id=model.id, created=model.created_at, owned_by=owner)
