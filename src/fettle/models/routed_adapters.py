"""Several adapters on one base model, each answering some of the rows of one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import ConfigError
from fettle.models.adapter import adapter_layers, put_on, require_bare, take_off
from fettle.models.load import LoadedModel
from fettle.models.lora_linear import Route, Routes, as_peft_computes, route_lora

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = ["Route", "RoutedAdapters"]


class RoutedAdapters:
    """The adapters on a base model. While there is one, the model is to be run inside `serving` only.

    Args:
        loaded: The base model, with no adapter on it.

    Raises:
        IntegrityError: An adapter is on the model already.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        require_bare(loaded.model)
        self._loaded = loaded
        self._peft: PeftModel | None = None
        self._routes = Routes()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the adapters, in the order in which they were put on."""
        return tuple(self._peft.peft_config) if self._peft is not None else ()

    def put(self, name: str, folder: Path) -> None:
        """Load an adapter beside the others.

        Raises:
            ConfigError: There is one of this name.
            ModelError: The folder holds no adapter for this model, or one that cannot answer beside others.
        """
        if name in self.names:
            raise ConfigError(f"there is an adapter called {name!r} already", remedy="take it off first")
        peft = put_on(self._loaded, folder, name=name, beside=self._peft)
        try:
            route_lora(peft, self._routes, name=name)
        except BaseException:
            take_off(peft, name)
            raise
        self._peft = peft

    def take(self, name: str) -> None:
        """Take an adapter off again; without the last one the base model is as it was."""
        assert self._peft is not None, "an adapter is on the model"
        take_off(self._peft, name)
        if not adapter_layers(self._loaded.model):
            self._peft = None

    @contextmanager
    def serving(self, routes: Sequence[Route]) -> Iterator[None]:
        """Within it the rows of every call are answered as the routes say, in their order."""
        missing = {route.adapter for route in routes if route.adapter is not None} - set(self.names)
        assert not missing, f"the adapters {sorted(missing)} are not on the model"
        before, self._routes.now = self._routes.now, routes
        try:
            yield
        finally:
            self._routes.now = before

    @contextmanager
    def as_peft_computes(self, name: str | None) -> Iterator[None]:
        """Within it the model answers with one adapter, or None, by PEFT's own layers: the reference."""
        if self._peft is None:
            yield
            return
        with as_peft_computes(self._loaded.model):
            if name is None:
                with self._peft.disable_adapter():
                    yield
            else:
                self._peft.set_adapter(name, inference_mode=True)
                yield
