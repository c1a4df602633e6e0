"""Fixtures that several rooms share; importing this folder's helpers works because pytest puts it on the path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiny_models import load_tiny_model, save_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """`tiny_model(family)`: a loaded random model, made once a session. Tests leave it as they found it."""
    loaded: dict[str, Any] = {}

    def load(family: str) -> Any:
        if family not in loaded:
            loaded[family] = load_tiny_model(save_tiny_model(tmp_path_factory.mktemp("models") / family, family))
        return loaded[family]

    return load
