"""The base model in the form that a method trains beside it and judges it in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fettle.models.load import LoadedModel, load_model, put_weights_away, reload_weights
from fettle.training.settings import Method


@contextmanager
def base_of(method: Method, loaded: LoadedModel) -> Iterator[LoadedModel]:
    """The base model as `method` needs it; `loaded` itself where it is held that way.

    Otherwise the weights of `loaded` are put away meanwhile, so that the memory never holds both, and are read again at the end. It
    must answer nothing in between.
    """
    if loaded.base_weights is method.base_weights:
        yield loaded
        return
    put_weights_away(loaded)
    try:
        yield load_model(loaded.source, loaded.precision, method.base_weights)
    finally:
        reload_weights(loaded)
