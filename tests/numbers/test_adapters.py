"""The adapter of a run: plain PEFT, active, in place, and refused where it does not fit."""

from __future__ import annotations

import json
import shutil
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_runs import TRAIN, prompt, run

from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.local import LocalEngine
from fettle.errors import IntegrityError, ModelError
from fettle.models.adapter import LoraSettings, adapter_layers, load_adapter, new_adapter, save_adapter, unload_adapters
from fettle.training.loop import TrainingResult


@pytest.fixture(scope="module")
def whole(tiny_model: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, Path]:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    return run(tiny_model("qwen3"), folder), folder


def test_the_saved_adapter_is_plain_peft(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded = tiny_model("qwen3")
    ids = torch.tensor([TRAIN[0].token_ids])
    bare = AutoModelForCausalLM.from_pretrained(loaded.source.path, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(bare, str(whole[0].tuned)).eval()
    peft = load_adapter(loaded, whole[0].tuned, name="tuned")
    try:
        with torch.no_grad():
            ours_logits, their_logits = loaded.model(input_ids=ids).logits, theirs(input_ids=ids).logits
            with theirs.disable_adapter():
                base_logits = theirs(input_ids=ids).logits
    finally:
        unload_adapters(peft)
    assert torch.equal(ours_logits, their_logits)
    assert float((ours_logits - base_logits).abs().max()) > 0.1
    config = json.loads((whole[0].tuned / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == loaded.source.public_id  # and no path of this machine
    merged = theirs.merge_and_unload()
    with torch.no_grad():
        assert torch.allclose(merged(input_ids=ids).logits, ours_logits, atol=1e-4)


def test_training_and_answering_open_no_connection(
    tiny_model: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    loaded = tiny_model("qwen3")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT swallows the error of a failed look-up and warns
        result = run(loaded, tmp_path)
        engine = LocalEngine(loaded, adapter=result.tuned)
    engine.choose([prompt("Where is it?")], ["a", "b"])
    engine.close()


def test_an_adapter_that_changes_nothing_is_found_out(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = tiny_model("qwen3")
    peft = new_adapter(loaded, LoraSettings(rank=2), seed=0, name="tuned")  # a fresh adapter is exactly zero
    save_adapter(peft, tmp_path, name="tuned")
    unload_adapters(peft)
    engine = LocalEngine(loaded, adapter=tmp_path)
    try:
        with pytest.raises(IntegrityError, match="inactive"):
            engine.require_adapter_active([prompt("Where is it?")])
    finally:
        engine.close()


def test_an_active_adapter_shows_by_how_much(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any]
) -> None:
    engine = LocalEngine(tiny_model("qwen3"), adapter=whole[0].tuned)
    try:
        assert engine.require_adapter_active([prompt("Where is it?"), prompt("x")]) > 0.01
    finally:
        engine.close()


def test_each_engine_answers_only_with_the_model_it_stands_for(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any]
) -> None:
    loaded = tiny_model("qwen3")
    asked, options = [prompt("Where is it?")], GenerationOptions(max_new_tokens=8)
    base = LocalEngine(loaded)
    before = base.choose(asked, ["a", "b"])
    tuned = LocalEngine(loaded, adapter=whole[0].tuned)
    try:
        with pytest.raises(IntegrityError, match="should be the base model"):
            base.generate(asked, options)
        with pytest.raises(IntegrityError, match="should be the base model"):
            base.choose(asked, ["a", "b"])
        with pytest.raises(IntegrityError, match="should be the base model"):
            LocalEngine(loaded)
        answered = tuned.choose(asked, ["a", "b"])
        assert tuned._peft is not None
        with tuned._peft.disable_adapter(), pytest.raises(IntegrityError, match="not in place"):
            tuned.generate(asked, options)
        tuned._peft.merge_adapter()
        with pytest.raises(IntegrityError, match="not in place"):
            tuned.choose(asked, ["a", "b"])
        tuned._peft.unmerge_adapter()
    finally:
        tuned.close()
    with pytest.raises(IntegrityError, match="not in place"):
        tuned.generate(asked, options)
    again = base.choose(asked, ["a", "b"])
    first, last, other = (answers[0].choice_log_likelihoods for answers in (before, again, answered))
    assert last == pytest.approx(first, abs=1e-4)
    assert other != pytest.approx(first, abs=1e-2)


def test_an_adapter_of_another_model_is_refused(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    from tiny_models import load_tiny_model, save_tiny_model

    with pytest.raises(ModelError, match="adapter_config"):
        LocalEngine(tiny_model("qwen3"), adapter=tmp_path)
    with pytest.raises(ModelError, match="does not fit"):
        LocalEngine(load_tiny_model(save_tiny_model(tmp_path / "phi3", "phi3")), adapter=whole[0].tuned)


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "cut"])
def test_an_adapter_with_other_tensors_than_its_model_needs_is_refused(
    change: str, whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded = tiny_model("qwen3")
    shutil.copytree(whole[0].tuned, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    match change:
        case "missing":
            del tensors[name]
        case "extra":
            tensors[name.replace("layers.0", "layers.7")] = tensors[name].clone()
        case "shape":
            tensors[name] = torch.cat([tensors[name]] * 2).contiguous()
    save_file(tensors, file)
    if change == "cut":
        file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ModelError, match=r"does not fit|cannot be read"):
        LocalEngine(loaded, adapter=tmp_path)
    assert adapter_layers(loaded.model) == ()
    LocalEngine(loaded).generate([prompt("x")], GenerationOptions(max_new_tokens=2))
