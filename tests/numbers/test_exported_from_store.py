"""A model of the store, exported by its name, answers as the served one does: token log-probabilities, beside their own noise.

The noise is measured: how far the served model is from the exact one (float64) when it answers alone and when it answers beside
others, and PEFT in float32. Whatever was exported may be no further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from databases import fresh_store
from fettle.cli import store as store_of_commands
from fettle.cli.main import app
from fettle.records import Message, Prompt
from fettle.store.database import Store
from fettle.store.models import TunedModel, folder_of
from kept_models import keep_tuned
from parity import Distance, distance, said, said_by, served
from tiny_models import load_tiny_model, save_tiny_model
from tuned_models import adapter_logits, folder_logits, save_tuned_adapter

TEXTS = ("Where is it?", "I was charged twice for one order.", "ok", "My card is gone, help!")
PROMPTS = [Prompt(example_id=text, messages=(Message(role="user", content=text),)) for text in TEXTS]
ORDER_OF_SUMS = 1.5
"""How much noisier one order of adding up may be than another: the distances are of three programs, and a fourth is no fault."""


@pytest.fixture(params=["llama", "qwen2"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "tiny", request.param)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with fresh_store(tmp_path / "home") as store:
        monkeypatch.setattr(store_of_commands, "open_store", lambda: store)
        yield store


def exported(model: TunedModel, out: Path, *options: str) -> Path:
    command = ["models", "export", model.id, "--out", str(out), *options]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out


def gguf_logits(file: Path, ids: list[int]) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def test_every_format_answers_as_the_served_model_within_the_noise(store: Store, base: Path, tmp_path: Path) -> None:
    model = keep_tuned(store, base, save_tuned_adapter(base, tmp_path / "trained"))
    kept = folder_of(store, model)
    together, alone = (
        served(load_tiny_model(base), kept, PROMPTS, max_new_tokens=16, alone=alone) for alone in (False, True)
    )
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    exact = said_by(together, lambda ids: adapter_logits(base, kept, ids, is_exact=True))

    def apart(logits: Callable[[list[int]], Any]) -> Distance:
        return distance(said_by(together, logits), exact)

    own = [distance(said(answers), exact) for answers in (together, alone)]
    own.append(apart(lambda ids: adapter_logits(base, kept, ids)))
    noise = max(each.root_mean_square for each in own)
    assert 0 < noise < 1e-5
    noise *= ORDER_OF_SUMS
    adapter = exported(model, tmp_path / "adapter", "--format", "adapter")
    merged = exported(model, tmp_path / "merged", "--format", "merged", "--type", "f32")
    gguf = exported(model, tmp_path / "tuned.gguf", "--format", "gguf", "--type", "f32")
    assert apart(lambda ids: adapter_logits(base, adapter, ids)).root_mean_square <= noise
    assert apart(lambda ids: folder_logits(merged, ids)).root_mean_square <= noise
    assert apart(lambda ids: gguf_logits(gguf, ids)).root_mean_square <= noise
    assert apart(lambda ids: folder_logits(base, ids)).root_mean_square > 1000 * noise
