"""`fettle jobs estimate`: what it says and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from databases import fresh_store
from fettle.cli import store as store_of_commands
from fettle.cli.main import app
from fettle.errors import ConfigError
from fettle.jobs.training_rows import BadTrainingFileError
from fettle.store.database import Store
from fettle.store.models import NoSuchModelError
from kept_models import keep_tuned
from tiny_models import save_tiny_model
from tuned_models import save_tuned_adapter


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with fresh_store(tmp_path / "home") as store:
        monkeypatch.setattr(store_of_commands, "open_store", lambda: store)
        monkeypatch.setenv("COLUMNS", "300")
        yield store


def rows(path: Path, count: int) -> Path:
    messages = [
        [{"role": "user", "content": f"message {number}"}, {"role": "assistant", "content": "billing"}]
        for number in range(count)
    ]
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in messages))
    return path


def estimate(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["jobs", "estimate", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_what_a_job_would_take(store: Store, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "tiny", "qwen2")
    file = rows(tmp_path / "rows.jsonl", 20)
    said = estimate(file, "--valid", rows(tmp_path / "valid.jsonl", 2), "--model", model, "--batch-size", 4,
                    "--price-per-hour", 2)  # fmt: skip
    assert "20\xa0rows take part" in said
    assert "5\xa0epochs (auto), batches of 4, learning rate" in said
    assert "Steps: 25, " in said
    for title in ("Validation file: 2\xa0rows", "Time: about", "Memory: about", "Cost: about"):
        assert title in said


def test_a_tuned_model_is_gone_on_from(store: Store, tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "tiny", "llama")
    model = keep_tuned(store, base, save_tuned_adapter(base, tmp_path / "adapter"))
    assert "Steps: 20, " in estimate(rows(tmp_path / "rows.jsonl", 10), "--model", model.id, "--epochs", 2)


def test_what_a_job_would_refuse_is_refused(store: Store, tmp_path: Path) -> None:
    model, file = save_tiny_model(tmp_path / "tiny", "qwen2"), rows(tmp_path / "rows.jsonl", 9)
    with pytest.raises(BadTrainingFileError, match=r"has 9 example\(s\), but must have at least 10"):
        estimate(file, "--model", model)
    with pytest.raises(ConfigError, match="no such file"):
        estimate(tmp_path / "none.jsonl")
    with pytest.raises(NoSuchModelError):
        estimate(file, "--model", "ft:tiny:fettle::nothing1")
    for multiplier in (0, 1e-30, 501):
        with pytest.raises(ConfigError, match=r"a number between 0\.0001 and 500"):
            estimate(file, "--learning-rate-multiplier", multiplier)
