"""Which weights answer to a model's name: what the store says, as the engines want it."""

from __future__ import annotations

from fettle.answering.engine_pool import ServedModel
from fettle.models.resolve import resolve_model
from fettle.store.database import Store
from fettle.store.models import TunedModel, base_of, find_model, folder_of


class StoreCatalogue:
    """See `fettle.answering.engine_pool.ModelCatalogue`.

    Args:
        store: Where models are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, name: str, project_id: str) -> ServedModel:
        """The model that a project means by a name.

        Raises:
            NoSuchModelError: There is none, or it is another project's.
            ModelError: Its files are not there.
        """
        with self._store.reading() as connection:
            model = find_model(connection, project_id, name)
            base = base_of(connection, model)
        if not isinstance(model, TunedModel):
            return ServedModel(name=model.id, base=resolve_model(base.source))
        return self.served(model, base.source)

    def served(self, model: TunedModel, base_source: str) -> ServedModel:
        """How a tuned model is served: beside its base model, or, where all weights were trained, by itself."""
        folder = folder_of(self._store, model)
        if not model.is_adapter:
            return ServedModel(name=model.id, base=resolve_model(str(folder)))
        return ServedModel(
            name=model.id,
            base=resolve_model(base_source),
            adapter=folder,
            base_sha256=model.base_sha256,
            template_sha256=model.template_sha256,
        )
