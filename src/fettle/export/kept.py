"""Tuned models of the store, to be exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fettle.errors import ConfigError, ModelError
from fettle.export.settings import ExportFormat, ExportSettings, WeightType
from fettle.models.resolve import ResolvedModel, resolve_model
from fettle.store.database import Store
from fettle.store.models import TunedModel, base_of, find_model_of_any_project, folder_of


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptModel:
    """A tuned model of the store, and the base model that it was tuned from."""

    model: TunedModel
    folder: Path
    """Its files."""
    base: ResolvedModel
    source: str
    """How the store names the base model."""


def settings_for_kept(
    store: Store, name: str, out: Path, *, format_: ExportFormat, weight_type: WeightType | None
) -> ExportSettings:
    """What to export of a model by its name.

    Raises:
        As `kept_model`.
    """
    kept = kept_model(store, name)
    return ExportSettings(source=kept.folder, format=format_, out=out, weight_type=weight_type, model=kept.source)


def kept_model(store: Store, name: str) -> KeptModel:
    """A tuned model by its name, its base model shown to be the one that was tuned.

    Raises:
        NoSuchModelError: There is none of this name.
        ConfigError: It is a base model.
        ModelError: The base model's files have changed since, or are not there.
    """
    with store.reading() as connection:
        model = find_model_of_any_project(connection, name)
        if not isinstance(model, TunedModel):
            raise ConfigError(
                f"{name} is a base model, of which nothing was tuned", remedy="name a tuned one, `ft:...`"
            )
        source = base_of(connection, model).source
    base = resolve_model(source)
    if base.sha256() != model.base_sha256:
        raise ModelError(
            f"{name} was tuned from another {model.base} than these files, or they have changed since",
            where=str(base.path),
            remedy="have the very files that it was tuned from in this place again",
        )
    return KeptModel(model=model, folder=folder_of(store, model), base=base, source=source)
