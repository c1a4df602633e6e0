"""What the end-to-end tests share: the server that commands are forked from, a tiny model, data files, and a finished study."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Runner, start_server
from studies import LABEL_STUDY, Study
from tiny import json_file, label_file, text_file

from tiny_models import save_tiny_model


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, `labels.csv`, `json.jsonl` and `text.jsonl`."""
    start_server()
    folder = tmp_path_factory.mktemp("bench")
    save_tiny_model(folder / "model", "qwen2")
    label_file(folder / "labels.csv")
    json_file(folder / "json.jsonl")
    text_file(folder / "text.jsonl")
    return folder


@pytest.fixture
def fettle(bench: Path, tmp_path: Path) -> Runner:
    """Runs `fettle` in the bench, with a FETTLE_HOME of the test's own."""
    return Runner(bench, tmp_path / "home")


@pytest.fixture(scope="session")
def label_study(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The label task, studied without interruption."""
    folder = tmp_path_factory.mktemp("label-study")
    finished = Runner(bench, folder / "home")(*LABEL_STUDY, "--out", folder / "study")
    return Study(finished, folder / "study")
