"""Faults of a server that answers a study for the base model and for what was trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted_studies import Bench, home_at, questions, write_rows

from adapters import write_adapter
from fettle.answering.answer_with import AnswerWith, EngineKind
from fettle.errors import IntegrityError
from fettle.models.adapter import load_adapter
from fettle.study.arms import ArmFault
from fettle.study.run import run_study
from tiny_models import load_tiny_model, save_tiny_model
from vllm_server import FakeVllm, serving


class Forgetful(FakeVllm):
    """Says that it has taken an adapter off, and goes on to run its base model with it."""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/unload_lora_adapter":
            self.mixes_up = True
            return 200, "Success"
        return super().answer(path, body)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    save_tiny_model(folder / "model", "qwen2")
    write_rows(folder / "labels.jsonl", questions(24))
    with home_at(folder / "home"):
        yield Bench(folder)


def study_by(bench: Bench, fake: FakeVllm, out: Path) -> None:
    with serving(fake) as served:
        run_study(replace(bench.settings, out=out, answer_with=AnswerWith(kind=EngineKind.VLLM, url=served.url)))


def test_a_server_without_fault(bench: Bench, tmp_path: Path) -> None:
    study_by(bench, FakeVllm(load_tiny_model(bench.folder / "model")), tmp_path / "study")
    assert (tmp_path / "study" / "report.json").is_file()


def test_a_server_that_leaves_the_adapter_out(bench: Bench, tmp_path: Path) -> None:
    fake = FakeVllm(load_tiny_model(bench.folder / "model"), ignores_adapter=True)
    with pytest.raises(IntegrityError, match=f"{ArmFault.NOT_LOADED}: .*what was trained is left out"):
        study_by(bench, fake, tmp_path / "study")


def test_a_server_that_keeps_the_adapter_on_its_base_model(bench: Bench, tmp_path: Path) -> None:
    fake = Forgetful(load_tiny_model(bench.folder / "model"))
    with pytest.raises(IntegrityError, match=f"{ArmFault.BASE_WITH_ADAPTER}: .*since it has the tuned model as well"):
        study_by(bench, fake, tmp_path / "study")


def test_a_server_whose_base_model_is_a_tuned_one(bench: Bench, tmp_path: Path) -> None:
    loaded = load_tiny_model(bench.folder / "model")
    load_adapter(loaded, write_adapter(loaded, tmp_path / "other", seed=5), name="merged").merge_and_unload()
    with pytest.raises(IntegrityError, match=f"{ArmFault.OTHER_BASE}: .*does not answer as the reference does"):
        study_by(bench, FakeVllm(loaded), tmp_path / "study")
