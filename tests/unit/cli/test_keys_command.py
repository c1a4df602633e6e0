"""`fettle keys`: what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from databases import fresh_store
from fettle.cli import store as store_of_commands
from fettle.cli.main import app
from fettle.errors import ConfigError
from fettle.store.keys import list_keys


@pytest.mark.parametrize(("arguments", "message"), [([""], "a key needs a name"), ([" "], "a key needs a name"),
                                                    (["bot", "--project", ""], "a project needs a name")])  # fmt: skip
def test_a_key_without_a_name_is_not_made(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_store(tmp_path / "home") as store:
        monkeypatch.setattr(store_of_commands, "open_store", lambda: store)
        with pytest.raises(ConfigError, match=message):
            CliRunner().invoke(app, ["keys", "create", *arguments], catch_exceptions=False)
        assert list_keys(store) == ()
