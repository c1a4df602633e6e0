"""The training loop: a killed run equals an uninterrupted one, the best step is kept, the base model is given back."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_runs import NUM_STEPS, SETTINGS, TRAIN, VALID, KilledError, prompt, run, weights

from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.local import LocalEngine
from fettle.errors import IntegrityError, ModelError
from fettle.models.adapter import LoraVariant, adapter_layers, load_adapter, unload_adapters
from fettle.training import loop
from fettle.training.accumulate import mean_loss
from fettle.training.events import TrainingEvent
from fettle.training.loop import TrainingResult, train
from fettle.training.settings import Schedule, learning_rate_at


def assert_same_result(result: TrainingResult, folder: Path, expected: TrainingResult, expected_folder: Path) -> None:
    measured = {"seconds": 0.0, "peak_memory_bytes": 0}  # of this run, not of its result
    assert replace(result, tuned=expected.tuned, **measured) == replace(expected, **measured)
    ours, theirs = weights(folder), weights(expected_folder)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def whole(tiny_model: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, Path]:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    return run(tiny_model("qwen3"), folder), folder


def test_a_run_takes_all_its_steps_and_learns(whole: tuple[TrainingResult, Path]) -> None:
    result, folder = whole
    valid = {point.step: point.valid_loss for point in result.loss_points if point.valid_loss is not None}
    steps = [point.step for point in result.loss_points if point.train_loss is not None]
    assert result.num_steps == NUM_STEPS
    assert steps == list(range(1, NUM_STEPS + 1))
    assert sorted(valid) == list(range(0, NUM_STEPS + 1, 2))
    assert valid[result.best_step] == min(valid.values()) < 0.8 * valid[0]
    assert result.num_trained_tokens == 3 * sum(row.num_trained_tokens for row in TRAIN)
    assert result.num_processed_tokens == 3 * sum(len(row.token_ids) for row in TRAIN)
    assert len((folder / "events.jsonl").read_text().splitlines()) == len(result.loss_points) + 1  # what it took


@pytest.mark.parametrize(
    ("evals_per_epoch", "steps"),
    [(1, [0, 4, 8]), (2, [0, 2, 4, 6, 8]), (3, [0, 2, 3, 4, 6, 7, 8]), (9, list(range(9)))],
)
def test_evaluations_are_spread_evenly_and_end_with_the_last_step(
    evals_per_epoch: int, steps: list[int], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    result = run(tiny_model("llama"), tmp_path, replace(SETTINGS, epochs=2, evals_per_epoch=evals_per_epoch))
    assert [point.step for point in result.loss_points if point.valid_loss is not None] == steps


@pytest.mark.parametrize("kill_at", range(1, NUM_STEPS + NUM_STEPS // 2 + 2))
def test_a_killed_run_goes_on_to_the_same_result(
    kill_at: int, whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded = tiny_model("qwen3")
    with pytest.raises(KilledError):
        run(loaded, tmp_path, kill_at=kill_at)
    assert_same_result(run(loaded, tmp_path), tmp_path, *whole)


def test_a_run_killed_again_and_again_ends_with_the_same_result(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    # Restored events are announced again, so each life is given a few more events than it is told of at once.
    loaded = tiny_model("qwen3")
    for kill_at in (2, 5, 8, 11, 14, 17):
        with pytest.raises(KilledError):
            run(loaded, tmp_path, kill_at=kill_at)
        assert adapter_layers(loaded.model) == ()
    assert_same_result(run(loaded, tmp_path), tmp_path, *whole)


def test_a_kill_while_going_on_leaves_no_adapter_on_the_base_model(
    tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded = tiny_model("qwen3")
    for kill_at in (9, 1):  # the second life ends at the first event that it repeats from the first
        with pytest.raises(KilledError):
            run(loaded, tmp_path, kill_at=kill_at)
        assert adapter_layers(loaded.model) == ()


def test_a_finished_run_is_not_run_again(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    shutil.copytree(whole[1], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "adapter")
    assert_same_result(run(tiny_model("qwen3"), tmp_path), tmp_path, *whole)
    assert (tmp_path / "events.jsonl").read_bytes() == (whole[1] / "events.jsonl").read_bytes()


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("damage", ["cut tensors", "cut state", "no state", "no tensors"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    damage: str, whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded = tiny_model("qwen3")
    with pytest.raises(KilledError):
        run(loaded, tmp_path, kill_at=13)
    earlier, newest = checkpoints(tmp_path)[-2:]
    tensors, state = newest / "tensors.safetensors", newest / "state.json"
    match damage:
        case "cut tensors":
            tensors.write_bytes(tensors.read_bytes()[:-100])
        case "cut state":
            state.write_text(state.read_text()[:20])
        case "no state":
            state.unlink()
        case "no tensors":
            tensors.unlink()
    went_on_at = json.loads((earlier / "state.json").read_text())["step"]
    kept = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert went_on_at > 0
    assert_same_result(run(loaded, tmp_path), tmp_path, *whole)
    after = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    num_kept = sum(event.get("step", NUM_STEPS) <= went_on_at for event in kept)
    assert after[:num_kept] == kept[:num_kept]  # their times show that those steps were not taken again


def test_damaged_checkpoints_do_not_cost_later_ones(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    # The damaged one has a higher number than those that the run then writes.
    loaded = tiny_model("qwen3")
    broken = tmp_path / "checkpoints" / "step-0000999"
    broken.mkdir(parents=True)
    (broken / "state.json").write_text("{}")
    with pytest.raises(KilledError):
        run(loaded, tmp_path, kill_at=10)
    steps = [json.loads((folder / "state.json").read_text())["step"] for folder in checkpoints(tmp_path)]
    assert max(steps) >= 4
    assert not broken.exists()


def test_a_checkpoint_of_another_run_is_not_continued(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded = tiny_model("qwen3")
    run(loaded, tmp_path, replace(SETTINGS, learning_rate=0.001, epochs=5), run_key="another")
    result = run(loaded, tmp_path, run_key="key")
    assert_same_result(result, tmp_path, *whole)
    with pytest.raises(KilledError):  # and this run's own checkpoints are kept although the other went further
        run(loaded, tmp_path, run_key="third", kill_at=12)
    seen: list[TrainingEvent] = []
    train(loaded, TRAIN, VALID, SETTINGS, folder=tmp_path, run_key="third", on_event=seen.append)
    assert_same_result(run(loaded, tmp_path, run_key="third"), tmp_path, *whole)


def test_training_leaves_the_base_model_bit_for_bit_as_it_was(
    tiny_model: Callable[[str], Any], whole: tuple[TrainingResult, Path], tmp_path: Path
) -> None:
    loaded = tiny_model("qwen3")
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    kinds = [type(module) for module in loaded.model.modules()]
    run(loaded, tmp_path)
    with pytest.raises(KilledError):
        run(loaded, tmp_path / "killed", kill_at=3)
    engine = LocalEngine(loaded, adapter=whole[0].tuned)
    engine.generate([prompt("Where is it?")], GenerationOptions(max_new_tokens=3))
    engine.close()
    after = loaded.model.state_dict()
    assert [type(module) for module in loaded.model.modules()] == kinds
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert not loaded.model.training


# ------------------------------------------------------------------------------------- settings that steer a run


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    # 10 % of 20 steps are 2: half, then all of the peak; then half a cosine over the 18 that are left.
    rates = [learning_rate_at(step, num_steps=20, peak=3.0, warmup_fraction=0.1) for step in range(20)]
    expected = [1.5, 3.0, *(3.0 * (1 + math.cos(math.pi * place / 18)) / 2 for place in range(18))]
    assert rates == pytest.approx(expected)
    assert learning_rate_at(0, num_steps=1, peak=1.0, warmup_fraction=0.03) == 1.0
    assert learning_rate_at(0, num_steps=3, peak=1.0, warmup_fraction=1.0) == pytest.approx(1 / 3)


def test_other_schedules_fall_along_a_line_or_stay() -> None:
    def rates(schedule: Schedule) -> list[float]:
        return [
            learning_rate_at(step, num_steps=10, peak=2.0, warmup_fraction=0.2, schedule=schedule) for step in range(10)
        ]

    assert rates(Schedule.LINEAR) == pytest.approx([1.0, 2.0, *(2.0 * (1 - place / 8) for place in range(8))])
    assert rates(Schedule.CONSTANT) == [1.0, *[2.0] * 9]


@pytest.mark.parametrize("schedule", [Schedule.LINEAR, Schedule.CONSTANT])
def test_the_run_uses_the_schedule_it_is_given(
    schedule: Schedule, tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    seen: list[TrainingEvent] = []
    settings = replace(SETTINGS, schedule=schedule)
    train(tiny_model("qwen3"), TRAIN, VALID, settings, folder=tmp_path, run_key="k", on_event=seen.append)
    rates = [event.learning_rate for event in seen if event.train_loss is not None]
    assert rates == [
        learning_rate_at(step, num_steps=NUM_STEPS, peak=0.02, warmup_fraction=0.03, schedule=schedule)
        for step in range(NUM_STEPS)
    ]


@pytest.mark.parametrize("variant", [LoraVariant.RSLORA, LoraVariant.DORA])
def test_a_variant_trains_and_answers_as_it_was_trained(
    variant: LoraVariant, tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded = tiny_model("llama")
    settings = replace(SETTINGS, lora=replace(SETTINGS.lora, variant=variant))
    result = train(loaded, TRAIN, VALID, settings, folder=tmp_path, run_key="k")
    losses = [point.valid_loss for point in result.loss_points if point.valid_loss is not None]
    peft = load_adapter(loaded, result.tuned, name="again")
    assert mean_loss(loaded.model, VALID, batch_size=32, max_tokens=4096) == pytest.approx(min(losses[1:]), rel=1e-5)
    assert peft.peft_config["again"].use_dora is (variant is LoraVariant.DORA)
    assert peft.peft_config["again"].use_rslora is (variant is LoraVariant.RSLORA)
    unload_adapters(peft)


def test_the_run_uses_that_learning_rate(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    seen: list[TrainingEvent] = []
    train(tiny_model("qwen3"), TRAIN, VALID, SETTINGS, folder=tmp_path, run_key="k", on_event=seen.append)
    rates = [event.learning_rate for event in seen if event.train_loss is not None]
    assert rates == [
        learning_rate_at(step, num_steps=NUM_STEPS, peak=0.02, warmup_fraction=0.03) for step in range(NUM_STEPS)
    ]
    assert all(event.grad_norm is not None and event.grad_norm > 0 for event in seen if event.train_loss is not None)


def test_early_stopping_keeps_the_best_step(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    # A learning rate far too high: the loss rises after the first steps, and the run stops after two worse evaluations.
    settings = replace(SETTINGS, learning_rate=0.5, patience=2, evals_per_epoch=4, epochs=8)
    loaded = tiny_model("llama")
    result = run(loaded, tmp_path, settings)
    valid = {point.step: point.valid_loss for point in result.loss_points if point.valid_loss is not None}
    assert result.stopped_early
    assert result.num_steps < 8 * 4
    assert result.best_step == min(valid, key=lambda step: valid[step])
    assert result.num_steps == result.best_step + 2
    peft = load_adapter(loaded, result.tuned, name="tuned")
    try:  # the adapter on disk is that of the best step, not of the last
        from fettle.training.accumulate import mean_loss

        loss = mean_loss(loaded.model, VALID, batch_size=32, max_tokens=60)
    finally:
        unload_adapters(peft)
    assert loss == pytest.approx(valid[result.best_step], rel=1e-6)
    assert_same_result(run(loaded, tmp_path, settings), tmp_path, result, tmp_path)


def test_weights_that_are_not_numbers_stop_the_run(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = tiny_model("llama")
    weight = loaded.model.get_output_embeddings().weight
    before = weight[5].clone()
    with torch.no_grad():
        weight[5, 0] = float("nan")
    try:
        with pytest.raises(ModelError, match="not finite"):
            run(loaded, tmp_path)
    finally:
        with torch.no_grad():
            weight[5] = before
    assert adapter_layers(loaded.model) == ()


def test_a_loss_that_is_not_finite_is_never_stepped_on(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    # The poison is in the embedding of a token that one training row has and no validation row.
    loaded = tiny_model("llama")
    poisoned = replace(TRAIN[0], token_ids=(*TRAIN[0].token_ids[:-6], 300, *TRAIN[0].token_ids[-5:]))
    table = loaded.model.get_input_embeddings().weight
    before = table[300].clone()
    with torch.no_grad():
        table[300] = float("nan")
    try:
        with pytest.raises(IntegrityError, match="training loss is nan") as raised:
            train(loaded, (poisoned, *TRAIN[1:]), VALID, SETTINGS, folder=tmp_path, run_key="key")
    finally:
        with torch.no_grad():
            table[300] = before
    assert raised.value.remedy is not None
    for checkpoint in checkpoints(tmp_path):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(checkpoint / "tensors.safetensors").values())


def test_checkpoints_that_take_long_to_write_are_written_less_often(
    whole: tuple[TrainingResult, Path],
    tiny_model: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def count(*arguments: Any) -> None:
        saved.append(arguments[1].step)
        save(*arguments)

    saved: list[int] = []
    save = loop.save_checkpoint
    monkeypatch.setattr(loop, "save_checkpoint", count)
    monkeypatch.setattr(loop, "_CHEAP_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "_SHARE_OF_SAVING", 1e-9)  # the next one would be due in years
    result = run(tiny_model("qwen3"), tmp_path)
    assert saved == [0, NUM_STEPS]  # the first, and the finished one
    assert result.loss_points == whole[0].loss_points
