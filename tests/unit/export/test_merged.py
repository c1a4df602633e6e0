from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from fettle.errors import ConfigError, ModelError
from fettle.export.settings import ExportFormat, WeightType
from fettle.models.adapter import LoraVariant
from tiny_models import save_tiny_model, save_unknown_model
from tuned_models import adapter_logits, exported, folder_logits, save_tuned_adapter

IDS = [5, 300, 17, 41, 260, 99, 33, 120]
MOST_DIFFERENCE = {WeightType.F32: 1e-5, WeightType.F16: 5e-3, WeightType.BF16: 4e-2}


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).std() / wanted.std())


@pytest.mark.parametrize("variant", list(LoraVariant))
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("weight_type", [WeightType.F32, WeightType.BF16])
def test_a_merged_model_answers_as_the_adapter_does(
    variant: LoraVariant, tied: bool, weight_type: WeightType, tmp_path: Path
) -> None:
    model = save_tiny_model(tmp_path / "model", "qwen2", tied=tied)
    adapter = save_tuned_adapter(model, tmp_path / "adapter", variant)
    wanted = adapter_logits(model, adapter, IDS)
    assert relative(folder_logits(model, IDS), wanted) > 0.1, "the adapter does something"
    done = exported(adapter, tmp_path / "merged", ExportFormat.MERGED, weight_type, model=model)
    assert relative(folder_logits(tmp_path / "merged", IDS), wanted) < MOST_DIFFERENCE[weight_type]
    assert done.merge is not None
    assert done.merge.relative < 1e-4
    with safe_open(tmp_path / "merged" / "model.safetensors", framework="np") as tensors:
        names = set(tensors.keys())
        kinds = {tensors.get_slice(name).get_dtype() for name in names}
    assert kinds == {"BF16" if weight_type is WeightType.BF16 else "F32"}
    assert ("lm_head.weight" in names) is not tied


def test_tokenizer_template_and_stop_tokens_are_part_of_a_merged_model(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", "qwen2")
    exported(save_tuned_adapter(model, tmp_path / "adapter"), tmp_path / "out", ExportFormat.MERGED, model=model)
    before, after = (AutoTokenizer.from_pretrained(str(folder)) for folder in (model, tmp_path / "out"))
    assert after.chat_template == before.chat_template
    assert after("Where is it? <|im_end|>")["input_ids"] == before("Where is it? <|im_end|>")["input_ids"]
    stops = json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"]
    assert stops == [0, before.convert_tokens_to_ids("<|im_end|>")]


def test_a_model_of_any_class_can_be_merged(tmp_path: Path) -> None:
    model = save_unknown_model(tmp_path / "model", "lfm2")
    adapter = save_tuned_adapter(model, tmp_path / "adapter")
    exported(adapter, tmp_path / "out", ExportFormat.MERGED, model=model)
    assert relative(folder_logits(tmp_path / "out", IDS), adapter_logits(model, adapter, IDS)) < 1e-5


def test_a_model_tuned_as_a_whole_is_written_in_another_type(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", "llama")
    done = exported(model, tmp_path / "out", ExportFormat.MERGED, WeightType.F16)
    assert done.merge is None
    assert relative(folder_logits(tmp_path / "out", IDS), folder_logits(model, IDS)) < MOST_DIFFERENCE[WeightType.F16]


def test_the_type_is_that_of_the_base_model_where_none_is_named(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", "llama")
    halved = tmp_path / "halved"
    exported(model, halved, ExportFormat.MERGED, WeightType.BF16)
    assert exported(halved, tmp_path / "again", ExportFormat.MERGED).weight_type is WeightType.BF16
    assert exported(model, tmp_path / "whole", ExportFormat.MERGED).weight_type is WeightType.F32


def test_values_that_do_not_fit_into_f16_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = save_tiny_model(tmp_path / "model", "llama")
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.0.mlp.down_proj.weight"][0, 0] = 1e5
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    for format_, out in ((ExportFormat.MERGED, "out"), (ExportFormat.GGUF, "out.gguf")):
        with pytest.raises(ModelError, match="do not fit into") as raised:
            exported(model, tmp_path / out, format_, WeightType.F16)
        assert "bf16" in (raised.value.remedy or "")
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_an_adapter_is_copied_with_the_tokenizer_and_peft_loads_it(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", "qwen2")
    adapter = save_tuned_adapter(model, tmp_path / "adapter")
    exported(adapter, tmp_path / "out", ExportFormat.ADAPTER, model=model)
    assert torch.equal(adapter_logits(model, tmp_path / "out", IDS), adapter_logits(model, adapter, IDS))
    assert AutoTokenizer.from_pretrained(str(tmp_path / "out")).chat_template
    with pytest.raises(ModelError, match="there is no adapter"):
        exported(model, tmp_path / "other", ExportFormat.ADAPTER)


def test_an_adapter_for_another_model_is_refused(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", "qwen2")
    adapter = save_tuned_adapter(model, tmp_path / "adapter")
    other = save_tiny_model(tmp_path / "other", "phi3")
    for format_ in ExportFormat:
        with pytest.raises(ModelError, match="does not fit the model other"):
            exported(adapter, tmp_path / "out.gguf", format_, model=other)
    with pytest.raises(ModelError, match="where that lies is not known") as raised:
        exported(adapter, tmp_path / "out", ExportFormat.MERGED)
    assert "--model" in (raised.value.remedy or "")
    assert not (tmp_path / "out").exists()


def test_what_no_export_wrote_is_never_replaced(tmp_path: Path) -> None:
    model, out = save_tiny_model(tmp_path / "model", "llama"), tmp_path / "out"
    exported(model, out, ExportFormat.MERGED)
    exported(model, out, ExportFormat.MERGED, WeightType.BF16)
    (out / "Modelfile").write_text("FROM .")
    for source in (out, model):
        with pytest.raises(ConfigError, match="that no `fettle export` wrote"):
            exported(model, source, ExportFormat.MERGED)
    assert (out / "Modelfile").read_text() == "FROM ."
    file = tmp_path / "out.gguf"
    file.write_bytes(b"GGUF, but another one")
    with pytest.raises(ConfigError, match="that no `fettle export` wrote"):
        exported(model, file, ExportFormat.GGUF)
    assert file.read_bytes() == b"GGUF, but another one"
    assert {path.name for path in tmp_path.iterdir()} == {"model", "out", "out.gguf"}
