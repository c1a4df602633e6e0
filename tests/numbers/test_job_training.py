"""The loop as jobs use it: the last step kept, small evaluations, weights of epochs, pauses, an adapter that is trained further."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_runs import NUM_STEPS, SETTINGS, TRAIN, VALID, KilledError, weights

from fettle.errors import ConfigError, ModelError, TrainingPausedError
from fettle.models.adapter import LoraSettings, LoraVariant, load_adapter, new_adapter, save_adapter, unload_adapters
from fettle.records import TokenisedExample
from fettle.training.accumulate import summed_loss
from fettle.training.events import TrainingEvent, read_events
from fettle.training.loop import train
from fettle.training.result import TrainingResult
from fettle.training.settings import Keep, Method, TrainingSettings

STEPS_PER_EPOCH = NUM_STEPS // SETTINGS.epochs
JOB = replace(SETTINGS, keep=Keep.LAST, kept_epochs=2, quick_valid_rows=2, evals_per_epoch=4, evaluates_untrained=False)


class Pauses:
    """Wants a pause when it is asked for the given time."""

    def __init__(self, at: int) -> None:
        self._at, self._num_asked = at, 0

    def __call__(self) -> bool:
        self._num_asked += 1
        return self._num_asked == self._at


def train_job(
    loaded: Any,
    folder: Path,
    settings: TrainingSettings = JOB,
    *,
    valid: tuple[TokenisedExample, ...] = VALID,
    **more: Any,
) -> TrainingResult:
    return train(loaded, TRAIN, valid, settings, folder=folder, run_key="job", **more)


def told(folder: Path) -> list[TrainingEvent]:
    """All events, the times left out."""
    return [replace(event, seconds=0.0) for event in read_events(folder / "events.jsonl").events]


def epoch_folders(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "epochs").iterdir())


def adapter_in(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def assert_same_weights(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def accuracy(loaded: Any, rows: tuple[TokenisedExample, ...], adapter: Path) -> float:
    """Of an adapter's greedy tokens, one example at a time by the model's own forward."""
    peft = load_adapter(loaded, adapter, name="again")
    num_right = 0
    for row in rows:
        with torch.no_grad():
            greedy = peft(input_ids=torch.tensor([row.token_ids]), use_cache=False).logits[0].argmax(-1).tolist()
        num_right += sum(
            greedy[place - 1] == row.token_ids[place] for place, trained in enumerate(row.is_trained) if trained
        )
    unload_adapters(peft)
    return num_right / sum(row.num_trained_tokens for row in rows)


@pytest.fixture(scope="module")
def whole(tiny_model: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, Path]:
    """An undisturbed job."""
    folder = tmp_path_factory.mktemp("whole-job")
    return train_job(tiny_model("qwen3"), folder), folder


# --------------------------------------------------------------------------------------------------- what is kept


def test_a_job_without_validation_rows_says_how_much_memory_it_took(
    tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    result = train_job(tiny_model("llama"), tmp_path, valid=())
    assert result.peak_memory_bytes > 1 << 20
    actual = read_events(tmp_path / "events.jsonl").actual
    assert actual is not None
    assert actual.peak_memory_bytes == result.peak_memory_bytes


def test_the_last_step_is_kept_however_its_validation_loss_is(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    # A learning rate far too high, for which a study stops early and goes back to an earlier step.
    loaded = tiny_model("llama")
    far_too_high = replace(SETTINGS, learning_rate=0.5, patience=1, evals_per_epoch=4)
    study = train_job(loaded, tmp_path / "study", far_too_high)
    assert study.stopped_early
    job = train_job(loaded, tmp_path / "job", replace(far_too_high, keep=Keep.LAST, kept_epochs=1))
    assert (job.stopped_early, job.num_steps, job.best_step) == (False, NUM_STEPS, NUM_STEPS)
    assert_same_weights(weights(tmp_path / "job"), adapter_in(tmp_path / "job" / "epochs" / f"step-{NUM_STEPS:07d}"))


def test_no_copy_of_the_best_weights_is_held_where_the_last_are_kept(whole: tuple[TrainingResult, Path]) -> None:
    [*_, newest] = sorted((whole[1] / "checkpoints").glob("step-*"))
    assert not any(name.startswith("best.") for name in load_file(newest / "tensors.safetensors"))


@pytest.mark.parametrize("keep", list(Keep))
def test_without_validation_rows_there_is_no_evaluation_and_the_last_step_is_kept(
    keep: Keep, whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    result = train_job(tiny_model("qwen3"), tmp_path, replace(SETTINGS, keep=keep), valid=())
    assert [point.valid_loss for point in result.loss_points] == [None] * NUM_STEPS
    assert (result.best_step, result.num_steps, result.stopped_early) == (NUM_STEPS, NUM_STEPS, False)
    assert_same_weights(weights(tmp_path), weights(whole[1]))  # evaluations change nothing


# ---------------------------------------------------------------------------------------------------- evaluations


def test_evaluations_within_an_epoch_are_small_and_those_at_its_end_have_all_rows(
    whole: tuple[TrainingResult, Path],
) -> None:
    evaluations = [event for event in told(whole[1]) if event.valid_loss is not None]
    full = [event.step for event in evaluations if event.is_full_evaluation]
    assert [event.step for event in evaluations] == list(range(1, NUM_STEPS + 1))  # none before the first step
    assert full == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH]
    assert not any(event.is_full_evaluation for event in told(whole[1]) if event.valid_loss is None)


def test_only_full_evaluations_decide_which_step_is_the_best(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    settings = replace(JOB, keep=Keep.BEST, learning_rate=0.05, evaluates_untrained=True)
    result = train_job(tiny_model("llama"), tmp_path, settings)
    full = {event.step: event.valid_loss for event in told(tmp_path) if event.is_full_evaluation and event.step > 0}
    assert sorted(full) == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH]
    assert result.best_step == min(full, key=lambda step: full[step] or 0.0)
    [first, *_] = told(tmp_path)
    assert (first.step, first.is_full_evaluation) == (0, True)


def test_losses_and_accuracies_are_those_of_the_weights_at_that_step(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any]
) -> None:
    loaded = tiny_model("qwen3")
    last = [event for event in told(whole[1]) if event.is_full_evaluation][-1]
    assert last.step == NUM_STEPS
    assert last.valid_accuracy == accuracy(loaded, VALID, whole[0].tuned)
    peft = load_adapter(loaded, whole[0].tuned, name="again")
    found = summed_loss(loaded.model, VALID, batch_size=32, max_tokens=60)
    unload_adapters(peft)
    assert last.valid_loss == pytest.approx(found.total / found.num_tokens, rel=1e-6)


def test_training_accuracy_is_measured_before_the_step_and_rises(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    # One batch of all rows: the accuracy at step 2 is that of the weights that step 1 left.
    loaded = tiny_model("qwen3")
    train_job(loaded, tmp_path, replace(JOB, batch_size=len(TRAIN), epochs=2, kept_epochs=2))
    after_one = accuracy(loaded, TRAIN, tmp_path / "epochs" / "step-0000001")
    steps = [event for event in told(tmp_path) if event.train_loss is not None]
    assert [event.step for event in steps] == [1, 2]
    assert steps[1].train_accuracy == after_one
    accuracies = [event.train_accuracy or 0.0 for event in told(whole[1]) if event.train_loss is not None]
    assert sum(accuracies[-3:]) > sum(accuracies[:3])
    assert all(0.0 <= value <= 1.0 for value in accuracies)


# ---------------------------------------------------------------------------------------------- weights of epochs


def test_the_weights_of_the_last_epochs_are_there_and_usable(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any]
) -> None:
    kept = [event.epoch_folder for event in told(whole[1]) if event.epoch_folder is not None]
    assert kept == [f"epochs/step-{epoch * STEPS_PER_EPOCH:07d}" for epoch in (1, 2, 3)]
    assert epoch_folders(whole[1]) == [name.removeprefix("epochs/") for name in kept[1:]]  # two are kept
    second = whole[1] / kept[1]
    assert sorted(path.name for path in second.iterdir()) == sorted(path.name for path in whole[0].tuned.iterdir())
    at_second = [event for event in told(whole[1]) if event.is_full_evaluation][1]
    assert accuracy(tiny_model("qwen3"), VALID, second) == at_second.valid_accuracy
    assert len(whole[0].loss_points) == 2 * NUM_STEPS  # of steps and evaluations alone


def test_it_is_told_of_an_epoch_once_its_weights_are_there(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    def look(event: TrainingEvent) -> None:
        if event.epoch_folder is not None:
            there.append((tmp_path / event.epoch_folder / "adapter_model.safetensors").is_file())

    there: list[bool] = []
    train_job(tiny_model("qwen3"), tmp_path, on_event=look)
    assert there == [True] * 3


def test_whole_models_are_kept_too(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    settings = replace(JOB, method=Method.FULL, learning_rate=0.002, kept_epochs=1)
    result = train_job(tiny_model("llama"), tmp_path, settings)
    [name] = epoch_folders(tmp_path)
    kept, last = (load_file(folder / "model.safetensors") for folder in (tmp_path / "epochs" / name, result.tuned))
    assert_same_weights(kept, last)


# --------------------------------------------------------------------------------------------------------- pauses


@pytest.mark.parametrize("at", range(1, NUM_STEPS))
def test_a_paused_job_goes_on_bit_for_bit(
    at: int, whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded, settings = tiny_model("qwen3"), replace(JOB, checkpoint_steps=1000)
    with pytest.raises(TrainingPausedError, match=f"after step {at} of {NUM_STEPS}"):
        train_job(loaded, tmp_path, settings, wants_pause=Pauses(at))
    [*_, newest] = sorted((tmp_path / "checkpoints").glob("step-*"))
    assert json.loads((newest / "state.json").read_text())["step"] == at
    steps = [event.step for event in told(tmp_path) if event.train_loss is not None]
    assert steps == list(range(1, at + 1))
    train_job(loaded, tmp_path, settings)
    assert told(tmp_path) == told(whole[1])
    assert_same_weights(weights(tmp_path), weights(whole[1]))
    for name in epoch_folders(whole[1]):
        assert_same_weights(adapter_in(tmp_path / "epochs" / name), adapter_in(whole[1] / "epochs" / name))


def test_a_pause_before_an_evaluation_and_a_kill_after_it_lose_nothing(
    tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    # What the evaluation finds is in no checkpoint when the kill comes; it must be measured again.
    loaded, settings = tiny_model("qwen3"), replace(JOB, keep=Keep.BEST, evals_per_epoch=1)
    undisturbed = train_job(loaded, tmp_path / "undisturbed", settings)
    with pytest.raises(TrainingPausedError):
        train_job(loaded, tmp_path / "disturbed", settings, wants_pause=Pauses(STEPS_PER_EPOCH))

    def kill(event: TrainingEvent) -> None:
        if event.valid_loss is not None:
            raise KilledError

    with pytest.raises(KilledError):
        train_job(loaded, tmp_path / "disturbed", settings, on_event=kill)
    result = train_job(loaded, tmp_path / "disturbed", settings)
    assert result.best_step == undisturbed.best_step
    assert told(tmp_path / "disturbed") == told(tmp_path / "undisturbed")
    assert_same_weights(weights(tmp_path / "disturbed"), weights(tmp_path / "undisturbed"))


@pytest.mark.parametrize("kill_at", [1, 5, 8, 9, 10, 17, 18, 19, 26, 27])
def test_a_killed_job_goes_on_bit_for_bit(
    kill_at: int, whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    seen: list[TrainingEvent] = []

    def kill(event: TrainingEvent) -> None:
        seen.append(event)
        if len(seen) == kill_at:
            raise KilledError

    loaded = tiny_model("qwen3")
    with pytest.raises(KilledError):
        train_job(loaded, tmp_path, on_event=kill)
    train_job(loaded, tmp_path)
    assert told(tmp_path) == told(whole[1])
    assert_same_weights(weights(tmp_path), weights(whole[1]))
    assert epoch_folders(tmp_path) == epoch_folders(whole[1])


@pytest.mark.long
def test_two_processes_pause_together_and_count_right_tokens_as_one(
    whole: tuple[TrainingResult, Path], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded, two = tiny_model("qwen3"), replace(JOB, processes=2)
    with pytest.raises(TrainingPausedError, match="after step 5"):
        train_job(loaded, tmp_path, two, wants_pause=Pauses(5))
    train_job(loaded, tmp_path, two)
    ours, theirs = (
        [event for event in told(folder) if event.train_loss is not None] for folder in (tmp_path, whole[1])
    )
    assert [event.train_loss for event in ours] == pytest.approx([event.train_loss for event in theirs], abs=1e-5)
    assert [event.train_accuracy for event in ours] == [event.train_accuracy for event in theirs]
    assert epoch_folders(tmp_path) == epoch_folders(whole[1])


# ------------------------------------------------------------------------------ an adapter that is trained further


def test_training_goes_on_from_an_adapter_in_the_shape_it_has(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = tiny_model("llama")
    of_rank_4 = replace(JOB, lora=LoraSettings(rank=4, alpha=8, variant=LoraVariant.RSLORA), kept_epochs=1)
    first = train_job(loaded, tmp_path / "first", of_rank_4)
    before = [event for event in told(tmp_path / "first") if event.is_full_evaluation][-1]
    settings = replace(JOB, evaluates_untrained=True, epochs=1)  # of rank 2, were it a fresh one
    second = train_job(loaded, tmp_path / "second", settings, start_from=first.tuned)
    [untrained, *_] = told(tmp_path / "second")
    assert untrained.valid_loss == before.valid_loss
    ours, theirs = adapter_in(second.tuned), adapter_in(first.tuned)
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)
    configs = [json.loads((one.tuned / "adapter_config.json").read_text()) for one in (first, second)]
    assert configs[0] == configs[1]
    assert configs[0]["target_modules"] == sorted(configs[0]["target_modules"])  # not in the order of this process


def test_an_adapter_of_another_model_is_refused_and_the_base_model_left_as_it_was(
    tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    other, loaded = tiny_model("phi3"), tiny_model("llama")
    peft = new_adapter(other, LoraSettings(rank=2, alpha=4), seed=0, name="tuned")
    save_adapter(peft, tmp_path / "other", name="tuned")
    unload_adapters(peft)
    with pytest.raises(ModelError, match="does not fit the model"):
        train_job(loaded, tmp_path / "run", start_from=tmp_path / "other")
    train_job(loaded, tmp_path / "run")


def test_all_weights_cannot_go_on_from_an_adapter(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be trained further where all weights are trained"):
        train_job(tiny_model("llama"), tmp_path, replace(JOB, method=Method.FULL), start_from=tmp_path)
