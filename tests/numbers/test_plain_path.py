"""The plain way gives what packed rows give, and models that packed rows do not fit are trained and answer by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import SETTINGS, TRAIN, VALID, prompt

from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engines.local import LocalEngine
from fettle.answering.engines.plain import PlainEngine, local_engine
from fettle.models.adapter import LoraSettings, new_adapter, save_adapter, unload_adapters
from fettle.training.accumulate import add_gradients, mean_loss
from fettle.training.loop import train
from tiny_models import load_tiny_model, save_unknown_model

PROMPTS = [
    prompt(text) for text in ("Where is it?", "My parcel is late, and the driver left no note.", "Refund, please!")
]
LABELS = ("refund", "late parcel", "late refund", "lost card")
SCHEMA = {
    "type": "object",
    "properties": {"queue": {"enum": ["refund", "delivery"]}, "urgent": {"type": "boolean"}},
    "required": ["queue", "urgent"],
    "additionalProperties": False,
}
REASON = "a test says so"


def random_adapter(loaded: Any, name: str) -> Any:
    peft = new_adapter(loaded, LoraSettings(rank=4, alpha=8), seed=1, name=name)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in peft.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return peft


@pytest.mark.parametrize("family", ["llama", "gemma3_narrow"])
def test_losses_and_gradients_are_those_of_packed_rows(family: str, tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model(family)
    peft = random_adapter(loaded, "tuned")
    found = []
    for plainly in (False, True):
        total, num_tokens, _ = add_gradients(loaded.model, TRAIN, max_tokens=60, plainly=plainly)
        loss = mean_loss(loaded.model, VALID, batch_size=4, max_tokens=60, plainly=plainly)
        found.append((total, num_tokens, loss, [p.grad.clone() for p in peft.parameters() if p.grad is not None]))
        peft.zero_grad(set_to_none=True)
    (total, num_tokens, loss, grads), (plain_total, plain_num_tokens, plain_loss, plain_grads) = found
    assert num_tokens == plain_num_tokens
    assert total == pytest.approx(plain_total, rel=1e-5)
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    assert len(grads) == len(plain_grads) >= 8
    for ours, theirs in zip(grads, plain_grads, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 2e-5
    unload_adapters(peft)
    loaded.model.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def adapter(tiny_model: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    peft = random_adapter(tiny_model("llama"), "tuned")
    save_adapter(peft, folder, name="tuned")
    unload_adapters(peft)
    return folder


@pytest.mark.parametrize("is_tuned", [False, True])
def test_the_plain_engine_says_what_the_packed_one_says(
    is_tuned: bool, adapter: Path, tiny_model: Callable[[str], Any]
) -> None:
    loaded = tiny_model("llama")
    form = JsonForm(schema=json.dumps(SCHEMA), item_separator=", ", key_separator=": ")
    found = []
    for kind in (LocalEngine, PlainEngine):
        engine = kind(loaded, adapter=adapter if is_tuned else None)
        change = engine.require_adapter_active(PROMPTS) if is_tuned else 0.0
        free = engine.generate(PROMPTS, GenerationOptions(max_new_tokens=12))
        in_form = engine.generate(PROMPTS, GenerationOptions(max_new_tokens=40, form=form))
        chosen = engine.choose(PROMPTS, LABELS)
        chosen_each = engine.choose_each(PROMPTS, [LABELS, LABELS[::-1], LABELS[:2]])
        assert sorted(index for batch in engine.batches(PROMPTS) for index in batch) == [0, 1, 2]
        engine.close()
        found.append((change, free, in_form, chosen, chosen_each))
    (change, *ours), (plain_change, *theirs) = found
    assert change == pytest.approx(plain_change, rel=1e-3)
    for answers, plain_answers in zip(ours, theirs, strict=True):
        for answer, plain in zip(answers, plain_answers, strict=True):
            assert (answer.text, answer.finish_reason) == (plain.text, plain.finish_reason)
            assert answer.usage.completion_tokens == plain.usage.completion_tokens
    for answer in found[1][2]:
        assert set(json.loads(answer.text)) == {"queue", "urgent"}
    for answer, plain in zip((*ours[2], *ours[3]), (*theirs[2], *theirs[3]), strict=True):
        assert answer.choice_log_likelihoods == pytest.approx(plain.choice_log_likelihoods, rel=1e-4)


@pytest.mark.parametrize("kind", ["lfm2", "mamba"])
def test_a_model_of_an_unknown_class_is_trained_and_answers(kind: str, tmp_path: Path) -> None:
    loaded = load_tiny_model(save_unknown_model(tmp_path / "model", kind))
    assert loaded.plain_reason
    result = train(loaded, TRAIN, VALID, SETTINGS, folder=tmp_path / "training", run_key="k")
    losses = [point.valid_loss for point in result.loss_points if point.valid_loss is not None]
    assert min(losses[1:]) < losses[0]
    engine = local_engine(loaded, adapter=result.tuned)
    assert isinstance(engine, PlainEngine)
    engine.require_adapter_active(PROMPTS)
    assert [answer.text in LABELS for answer in engine.choose(PROMPTS, LABELS)] == [True] * 3
    together = engine.generate(PROMPTS, GenerationOptions(max_new_tokens=6))
    alone = [engine.generate([one], GenerationOptions(max_new_tokens=6))[0] for one in PROMPTS]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    engine.close()


def test_a_model_that_is_understood_is_not_run_plainly(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")
    assert loaded.plain_reason is None
    assert type(local_engine(loaded)) is LocalEngine
    assert type(local_engine(replace(loaded, plain_reason=REASON))) is PlainEngine
