"""Tuned models of the store, to be exported."""

from __future__ import annotations

from pathlib import Path

from fettle.errors import ConfigError, ModelError
from fettle.export.settings import ExportFormat, ExportSettings, WeightType
from fettle.models.resolve import resolve_model
from fettle.store.database import Store
from fettle.store.models import TunedModel, base_of, find_model_of_any_project, folder_of


def settings_for_kept(
    store: Store, name: str, out: Path, *, format_: ExportFormat, weight_type: WeightType | None
) -> ExportSettings:
    """What to export of a model by its name, its base model shown to be the one that was tuned.

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
    return ExportSettings(
        source=folder_of(store, model), format=format_, out=out, weight_type=weight_type, model=source
    )
