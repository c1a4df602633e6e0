"""Training all weights: its gradients, its masters, and a base model that comes back as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_gradients import RELATIVE_TOLERANCE, family_tree, plain_loss
from training_runs import SETTINGS, KilledError, prompt, run

from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.plain import local_engine
from fettle.errors import IntegrityError
from fettle.models.load import load_model
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from fettle.training import accumulate
from fettle.training.accumulate import add_gradients
from fettle.training.settings import Method, TrainingSettings
from fettle.training.sft import LossSum
from fettle.training.trainable import WholeModel, trainable
from tiny_models import FAMILIES, load_tiny_model, save_tiny_model, save_unknown_model

FULL = replace(SETTINGS, method=Method.FULL, learning_rate=0.003)


def gradients(whole: WholeModel) -> dict[str, torch.Tensor]:
    found = {name: master.grad.clone() for name, master in whole.masters.items() if master.grad is not None}
    for master in whole.masters.values():
        master.grad = None
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_tokens", [10_000, 40], ids=["at-once", "in-parts"])
def test_gradients_of_all_weights_equal_one_example_at_a_time(
    tiny_model: Callable[[str], Any], family: str, max_tokens: int
) -> None:
    loaded = tiny_model(family)
    whole = WholeModel(loaded)
    try:
        examples = family_tree(seed=11)
        total, *_ = add_gradients(loaded.model, examples, max_tokens=max_tokens)
        packed = gradients(whole)
        losses = [plain_loss(loaded.model, example) for example in examples]
        sum(losses).backward()  # pyright: ignore[reportAttributeAccessIssue] (a tensor)
        plain = gradients(whole)
    finally:
        whole.release()
    assert total == pytest.approx(sum(float(loss.detach()) for loss in losses), rel=1e-5)
    assert packed.keys() == plain.keys() == whole.masters.keys()
    for name, reference in plain.items():
        assert float((packed[name] - reference).norm() / reference.norm()) < RELATIVE_TOLERANCE, name


def tied_gradients(folder: Path, precision: Precision, *, packed: bool) -> dict[str, torch.Tensor]:
    loaded = load_model(resolve_model(str(folder)), precision)
    whole = WholeModel(loaded)
    examples = family_tree(seed=3)
    if packed:
        add_gradients(loaded.model, examples, max_tokens=10_000)
    else:
        sum(plain_loss(loaded.model, example) for example in examples).backward()  # pyright: ignore[reportAttributeAccessIssue]
    assert precision is Precision.EXACT or all(weight.grad is None for weight in loaded.model.parameters())
    return gradients(whole)


def test_a_tied_head_gets_the_gradients_of_both_its_uses(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "tied", "llama", tied=True)
    plain = tied_gradients(folder, Precision.EXACT, packed=False)
    packed = tied_gradients(folder, Precision.EXACT, packed=True)
    [embedding] = [name for name in plain if "embed" in name or "lm_head" in name]
    assert float((packed[embedding] - plain[embedding]).norm() / plain[embedding].norm()) < RELATIVE_TOLERANCE


def test_in_bf16_packed_gradients_are_no_farther_from_fp32_than_plain_ones(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "tied", "llama", tied=True)
    exact = tied_gradients(folder, Precision.EXACT, packed=False)
    plain, packed = (tied_gradients(folder, Precision.FAST, packed=packed) for packed in (False, True))
    assert {gradient.dtype for gradient in packed.values()} == {torch.float32}

    def distance(found: dict[str, torch.Tensor]) -> float:
        squares = [((found[name] - exact[name]).norm() / exact[name].norm()) ** 2 for name in exact]
        return float(torch.stack(squares).mean().sqrt())

    assert distance(packed) < 1.1 * distance(plain)


def test_steps_too_small_for_bf16_are_not_lost(tmp_path: Path) -> None:
    loaded = load_model(resolve_model(str(save_tiny_model(tmp_path / "model", "llama"))), Precision.FAST)
    before = [weight.detach().clone() for weight in loaded.model.parameters()]
    whole = WholeModel(loaded)
    with torch.no_grad():
        for _ in range(200):  # each a thousandth of the weight: bf16 has steps of a 256th and would drop it
            for master in whole.masters.values():
                master.mul_(1.001)
            whole.stepped()
    grown = [
        float((weight.detach().float() / old.float()).nanmedian())
        for weight, old in zip(loaded.model.parameters(), before, strict=True)
    ]
    assert grown == pytest.approx([1.001**200] * len(grown), rel=0.01)


@pytest.fixture(scope="module")
def whole_run(tiny_model: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tiny_model("qwen3"), tmp_path_factory.mktemp("full"), FULL)


def test_the_run_learns_and_the_base_model_comes_back(
    tiny_model: Callable[[str], Any], whole_run: Any, tmp_path: Path
) -> None:
    loaded = tiny_model("qwen3")
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    result = run(loaded, tmp_path, FULL)
    losses = [point.valid_loss for point in result.loss_points if point.valid_loss is not None]
    assert losses[-1] < 0.7 * losses[0]
    assert losses == [point.valid_loss for point in whole_run.loss_points if point.valid_loss is not None]
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(weight.requires_grad for weight in loaded.model.parameters())


@pytest.mark.parametrize("kill_at", [1, 6, 17])
def test_a_killed_run_goes_on_to_the_same_weights(
    tiny_model: Callable[[str], Any], whole_run: Any, tmp_path: Path, kill_at: int
) -> None:
    with pytest.raises(KilledError):
        run(tiny_model("qwen3"), tmp_path, FULL, kill_at=kill_at)
    result = run(tiny_model("qwen3"), tmp_path, FULL)
    assert (result.tuned / "model.safetensors").read_bytes() == (whole_run.tuned / "model.safetensors").read_bytes()
    assert result.loss_points == whole_run.loss_points


def test_the_tuned_model_is_a_model_of_its_own(tiny_model: Callable[[str], Any], whole_run: Any) -> None:
    base = local_engine(tiny_model("qwen3"))
    tuned = local_engine(load_tiny_model(whole_run.tuned))
    prompts = [prompt("Where is it?"), prompt("I was charged twice")]
    assert tuned.require_other_than(base, prompts) > 0
    with pytest.raises(IntegrityError, match="the logits of the base model"):
        base.require_other_than(local_engine(tiny_model("qwen3")), prompts)
    options = GenerationOptions(max_new_tokens=5)
    assert [a.text for a in tuned.generate(prompts, options)] != [a.text for a in base.generate(prompts, options)]


def test_a_model_that_packed_rows_do_not_fit_is_trained_in_the_plain_way(tmp_path: Path) -> None:
    loaded = load_tiny_model(save_unknown_model(tmp_path / "lfm2", "lfm2"))
    result = run(loaded, tmp_path / "run", FULL)
    losses = [point.valid_loss for point in result.loss_points if point.valid_loss is not None]
    assert losses[-1] < losses[0]


def test_settings_choose_what_is_trained(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")
    num_weights = sum(parameter.numel() for parameter in loaded.model.parameters())
    num_trained = {}
    for method in (Method.LORA, Method.FULL):
        chosen = trainable(loaded, TrainingSettings(method=method))
        num_trained[method] = sum(master.numel() for master in chosen.masters.values())
        chosen.release()
    assert num_trained[Method.FULL] == num_weights
    assert 0 < num_trained[Method.LORA] < num_weights
    assert sum(parameter.numel() for parameter in loaded.model.parameters()) == num_weights


def test_what_the_optimiser_steps_on_is_what_the_adapter_s_layers_read(tiny_model: Callable[[str], Any]) -> None:
    chosen = trainable(tiny_model("llama"), TrainingSettings())
    [master] = chosen.masters.values()
    parts = [parameter for parameter in chosen._peft.parameters() if parameter.requires_grad]  # pyright: ignore[reportAttributeAccessIssue]
    with torch.no_grad():
        master.fill_(3.0)
    assert all(bool((part == 3.0).all()) for part in parts)
    sum(part.sum() for part in parts).backward()
    assert master.grad is not None
    assert bool((master.grad == 1.0).all())
    chosen.release()


def test_a_gradient_that_reaches_nothing_is_an_error(
    tiny_model: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accumulate, "add_gradients", lambda *_args, **_kwargs: LossSum(12.0, 4, 0.0))
    with pytest.raises(IntegrityError, match="no gradient reached what is trained at step 0"):
        run(tiny_model("llama"), tmp_path, TrainingSettings())
