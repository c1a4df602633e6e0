"""Fixtures that several rooms share; importing this folder's helpers works because pytest puts it on the path."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

from tiny_models import load_tiny_model, save_tiny_model

# A person's run draws new cases each time and may find something; a run that gates a change tries the same ones each time.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """`tiny_model(family)`: a loaded random model, made once a session. Tests leave it as they found it."""
    loaded: dict[str, Any] = {}

    def load(family: str) -> Any:
        if family not in loaded:
            loaded[family] = load_tiny_model(save_tiny_model(tmp_path_factory.mktemp("models") / family, family))
        return loaded[family]

    return load
