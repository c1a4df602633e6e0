from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fettle.errors import ModelError, ResourceError
from fettle.models.load import load_model
from fettle.models.precision import Precision
from fettle.models.resolve import ResolvedModel, WeightsKind, resolve_model
from tiny_models import load_tiny_model, save_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model", "llama")


def test_a_loaded_model_is_frozen_and_ready_to_answer(folder: Path) -> None:
    loaded = load_tiny_model(folder)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.max_tokens == 1024
    assert loaded.renderer.end_of_turn_id in loaded.stop_token_ids


def test_a_model_with_longrope_is_taken_as_far_as_its_positions_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "phi3", "phi3")
    config = json.loads((folder / "config.json").read_text())
    size = config["hidden_size"] // config["num_attention_heads"] // 2
    factors = {"short_factor": [1.0] * size, "long_factor": [4.0] * size}
    config |= {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 96}}
    config["rope_parameters"] |= factors
    config["original_max_position_embeddings"] = 96
    (folder / "config.json").write_text(json.dumps(config))
    assert load_tiny_model(folder).max_tokens == 96


def test_fast_means_bf16(folder: Path) -> None:
    loaded = load_model(resolve_model(str(folder)), Precision.FAST)
    assert loaded.precision is Precision.FAST
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}


def test_every_token_that_a_models_files_name_as_an_end_stops_an_answer(folder: Path) -> None:
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["eos_token_id"] = [2, 17]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    loaded = load_tiny_model(folder)
    assert loaded.stop_token_ids == {loaded.renderer.end_of_turn_id, loaded.renderer.tokenizer.eos_token_id, 2, 17}


def refused(folder: Path) -> ModelError:
    with pytest.raises(ModelError) as raised:
        load_tiny_model(folder)
    assert raised.value.where == str(folder)
    assert raised.value.remedy
    return raised.value


@pytest.mark.parametrize("size", [0, 7, 500, -100])
def test_damaged_weights_are_refused(size: int, folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    refused(folder)


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    # transformers would draw the missing ones at random and say so in a log line.
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    assert "model.layers.1.mlp.up_proj.weight" in refused(folder).problem


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["intermediate_size"] = 96
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model_type": "no-such-model"}', "{}", '{"model_type": "bert"}'])
def test_a_config_that_cannot_be_used_is_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    refused(folder)


@pytest.mark.parametrize("text", [None, "", "{}", "[]"])
def test_a_tokenizer_that_is_missing_or_damaged_is_refused(text: str | None, folder: Path) -> None:
    if text is None:
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "tokenizer.json").write_text(text)
    refused(folder)


def test_a_damaged_gguf_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(ModelError, match="GGUF"):
        load_model(ResolvedModel(public_id="x", path=file, kind=WeightsKind.GGUF), Precision.EXACT)


def sparse_weights(folder: Path, *, num_values: int, dtype: str, num_bytes: int) -> None:
    """Weights that take no room on the disk: a true header before a hole."""
    header = {"w": {"dtype": dtype, "shape": [num_values], "data_offsets": [0, num_bytes]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + num_bytes)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype", None])
def test_a_model_that_does_not_fit_is_refused_before_it_is_read(key: str | None, folder: Path) -> None:
    import psutil

    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype", None)
    if key:
        config[key] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config))
    # In bf16 on disk the weights alone would fit; as fp32 in memory they do not, whatever the config calls them.
    num_values = int(psutil.virtual_memory().total * 0.2)
    sparse_weights(folder, num_values=num_values, dtype="BF16", num_bytes=2 * num_values)
    with pytest.raises(ResourceError, match="GiB of memory") as raised:
        load_tiny_model(folder)
    assert "smaller model" in (raised.value.remedy or "")


def test_a_model_that_fits_is_not_refused_for_its_size_on_disk(folder: Path) -> None:
    assert load_tiny_model(folder).model.num_parameters() > 0
