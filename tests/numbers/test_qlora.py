"""A base model in 4 bits: gradients of an adapter beside it, what it stands for, and runs that are cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_gradients import family_tree, gradients, plain_loss, ragged_rows
from training_runs import SETTINGS, VALID, KilledError, prompt, run, weights

from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.local import LocalEngine
from fettle.answering.engines.plain import local_engine
from fettle.errors import ConfigError, IntegrityError, ModelError
from fettle.models.adapter import LoraSettings, LoraVariant, load_adapter, new_adapter, unload_adapters
from fettle.models.load import LoadedModel, load_model
from fettle.models.nf4 import dequantised, is_nf4
from fettle.models.precision import BaseWeights, Precision
from fettle.models.resolve import resolve_model
from fettle.records import TokenisedExample
from fettle.training.accumulate import add_gradients, mean_loss
from fettle.training.settings import Method
from tiny_models import FAMILIES, load_tiny_model, save_tiny_model, save_unknown_model

TinyModel = Callable[[str], Any]
RELATIVE_TOLERANCE = 1e-4
QLORA = replace(SETTINGS, method=Method.QLORA)


@contextmanager
def adapted(loaded: LoadedModel, variant: LoraVariant = LoraVariant.LORA) -> Iterator[Any]:
    """The model with a random adapter, the same one each time."""
    peft = new_adapter(loaded, LoraSettings(rank=4, alpha=8, variant=variant), seed=1, name="tuned")
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in peft.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    try:
        yield peft
    finally:
        unload_adapters(peft)
        loaded.model.requires_grad_(requires_grad=False)


def packed_step(loaded: LoadedModel, peft: Any, examples: list[TokenisedExample], *, max_tokens: int) -> Any:
    total, *_ = add_gradients(loaded.model, examples, max_tokens=max_tokens)
    return total, gradients(peft)


def plain_step(peft: Any, examples: list[TokenisedExample]) -> Any:
    total = 0.0
    for example in examples:
        loss = plain_loss(peft, example)
        loss.backward()
        total += float(loss.detach())
    return total, gradients(peft)


def require_equal(found: Any, expected: Any) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1].keys() == expected[1].keys()
    assert len(expected[1]) >= 2 * 4  # both factors of at least four linear layers
    for name, reference in expected[1].items():
        assert float(reference.norm()) > 0, name
        assert float((found[1][name] - reference).norm() / reference.norm()) < RELATIVE_TOLERANCE, name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_tokens", [10_000, 40], ids=["at-once", "in-parts"])
def test_a_tree_of_prefixes_equals_one_example_at_a_time(
    family: str, max_tokens: int, tiny_nf4_model: TinyModel
) -> None:
    loaded, examples = tiny_nf4_model(family), family_tree(seed=11)
    with adapted(loaded) as peft:
        require_equal(packed_step(loaded, peft, examples, max_tokens=max_tokens), plain_step(peft, examples))


def test_a_variant_equals_one_example_at_a_time(tiny_nf4_model: TinyModel) -> None:
    loaded, examples = tiny_nf4_model("llama"), ragged_rows(num_shared=20, seed=3)
    with adapted(loaded, LoraVariant.RSLORA) as peft:
        require_equal(packed_step(loaded, peft, examples, max_tokens=10_000), plain_step(peft, examples))


def dequantised_twin(quantised: LoadedModel, folder: Path, family: str) -> LoadedModel:
    """A model of ordinary linear layers, with the weights that those in 4 bits stand for."""
    twin = load_tiny_model(save_tiny_model(folder / family, family))
    plain = dict(twin.model.named_modules())
    with torch.no_grad():
        for name, module in quantised.model.named_modules():
            if is_nf4(module):
                plain[name].weight.copy_(dequantised(module, torch.float32))
    return twin


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_it_is_lora_beside_the_dequantised_weights(family: str, tiny_nf4_model: TinyModel, tmp_path: Path) -> None:
    loaded, examples = tiny_nf4_model(family), family_tree(seed=7)
    twin = dequantised_twin(loaded, tmp_path, family)
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        given = load_tiny_model(tmp_path / family).model(input_ids=ids).logits
        logits, of_twin = loaded.model(input_ids=ids).logits, twin.model(input_ids=ids).logits
    torch.testing.assert_close(logits, of_twin, rtol=1e-5, atol=1e-5)
    assert float((given - logits).norm() / given.norm()) > 0.01, "4 bits are not for nothing"
    with adapted(loaded) as peft:
        found = packed_step(loaded, peft, examples, max_tokens=10_000)
    with adapted(twin) as peft:
        require_equal(found, packed_step(twin, peft, examples, max_tokens=10_000))
        require_equal(found, plain_step(peft, examples))


def test_in_bf16_packed_gradients_are_no_farther_from_fp32_than_plain_ones(
    tiny_nf4_model: TinyModel, tmp_path: Path
) -> None:
    exact, examples = tiny_nf4_model("llama"), ragged_rows(num_shared=20, seed=5)
    folder = save_tiny_model(tmp_path / "llama", "llama")
    fast = load_model(resolve_model(str(folder)), Precision.FAST, BaseWeights.NF4)
    with adapted(exact) as peft:
        _, reference = plain_step(peft, examples)
    with adapted(fast) as peft:
        _, packed = packed_step(fast, peft, examples, max_tokens=10_000)
        _, plain = plain_step(peft, examples)
    assert {gradient.dtype for gradient in packed.values()} == {torch.float32}

    def distance(found: dict[str, torch.Tensor]) -> float:
        squares = [((found[name] - reference[name]).norm() / reference[name].norm()) ** 2 for name in reference]
        return float(torch.stack(squares).mean().sqrt())

    assert distance(packed) < 1.2 * distance(plain)


@pytest.fixture(scope="module")
def whole_run(tiny_nf4_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("qlora")
    return run(tiny_nf4_model("qwen3"), folder, QLORA), folder


def test_the_run_learns_and_the_base_model_comes_back(
    tiny_nf4_model: TinyModel, whole_run: Any, tmp_path: Path
) -> None:
    loaded = tiny_nf4_model("qwen3")
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    result = run(loaded, tmp_path, QLORA)
    losses = [point.valid_loss for point in result.loss_points if point.valid_loss is not None]
    assert losses[-1] < 0.8 * losses[0]
    assert losses == [point.valid_loss for point in whole_run[0].loss_points if point.valid_loss is not None]
    after = loaded.model.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("kill_at", [1, 6, 17])
def test_a_killed_run_goes_on_to_the_same_adapter_with_a_model_loaded_anew(
    kill_at: int, whole_run: Any, tmp_path: Path
) -> None:
    folder = save_tiny_model(tmp_path / "model", "qwen3")
    with pytest.raises(KilledError):
        run(load_tiny_model(folder, in_nf4=True), tmp_path / "run", QLORA, kill_at=kill_at)
    result = run(load_tiny_model(folder, in_nf4=True), tmp_path / "run", QLORA)
    expected, expected_folder = whole_run
    assert result.loss_points == expected.loss_points
    ours, theirs = weights(tmp_path / "run"), weights(expected_folder)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_was_trained_is_what_answers(tiny_nf4_model: TinyModel, tiny_model: TinyModel, whole_run: Any) -> None:
    loaded, (result, _) = tiny_nf4_model("qwen3"), whole_run
    best = min(point.valid_loss for point in result.loss_points if point.valid_loss is not None and point.step > 0)
    peft = load_adapter(loaded, result.tuned, name="again")
    assert mean_loss(loaded.model, VALID, batch_size=32, max_tokens=4096) == pytest.approx(best, rel=1e-5)
    unload_adapters(peft)
    # The same adapter beside the weights as given is another model: the quantised base is part of what was trained.
    peft = load_adapter(tiny_model("qwen3"), result.tuned, name="again")
    assert mean_loss(tiny_model("qwen3").model, VALID, batch_size=32, max_tokens=4096) != pytest.approx(best, rel=1e-3)
    unload_adapters(peft)


def test_the_engine_answers_as_the_library_does(tiny_nf4_model: TinyModel, whole_run: Any) -> None:
    loaded, (result, _) = tiny_nf4_model("qwen3"), whole_run
    engine = LocalEngine(loaded, adapter=result.tuned)
    prompts = [prompt("Where is it?"), prompt("I was charged twice"), prompt("refund")]
    assert engine.name.endswith(" in NF4 + adapter")
    assert engine.require_adapter_active(prompts) > 0
    texts = [answer.text for answer in engine.generate(prompts, GenerationOptions(max_new_tokens=6))]
    rows = [loaded.renderer.prompt_tokens(one.messages) for one in prompts]
    for row, text in zip(rows, texts, strict=True):
        out = loaded.model.generate(
            torch.tensor([row]), max_new_tokens=6, do_sample=False, eos_token_id=sorted(loaded.stop_token_ids),
            pad_token_id=0,
        )  # fmt: skip
        tokens = out[0, len(row) :].tolist()
        tokens = tokens[:-1] if tokens[-1] in loaded.stop_token_ids else tokens
        assert loaded.renderer.decode(tokens).strip() == text
    engine.close()


def test_a_model_that_packed_rows_do_not_fit_is_trained_in_the_plain_way(
    tiny_nf4_model: TinyModel, tmp_path: Path
) -> None:
    loaded = load_tiny_model(save_unknown_model(tmp_path / "lfm2", "lfm2"), in_nf4=True)
    result = run(loaded, tmp_path / "run", QLORA)
    losses = [point.valid_loss for point in result.loss_points if point.valid_loss is not None]
    assert losses[-1] < losses[0]
    engine = local_engine(loaded, adapter=result.tuned)
    assert engine.require_adapter_active([prompt("Where is it?")]) > 0
    engine.close()


def test_a_model_that_reads_weights_past_its_layers_is_refused(tiny_nf4_model: TinyModel, tmp_path: Path) -> None:
    folder = save_unknown_model(tmp_path / "mamba", "mamba")
    with pytest.raises(ModelError, match="cannot be held in 4 bits"):
        load_tiny_model(folder, in_nf4=True)


def test_dora_is_refused() -> None:
    with pytest.raises(ConfigError, match="DoRA"):
        replace(QLORA, lora=replace(QLORA.lora, variant=LoraVariant.DORA))


@pytest.mark.parametrize("method", [Method.LORA, Method.FULL])
def test_other_methods_refuse_a_quantised_base(method: Method, tiny_nf4_model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="held as given, and these are held nf4"):
        run(tiny_nf4_model("llama"), tmp_path, replace(SETTINGS, method=method))


def test_qlora_refuses_a_base_as_given(tiny_model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="held nf4, and these are held as given"):
        run(tiny_model("llama"), tmp_path, QLORA)
