from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fettle.errors import ResourceError
from fettle.models.load import load_model
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from fettle.records import TokenisedExample
from fettle.report_records import TrainingCost
from fettle.training import memory_plan
from fettle.training.accumulate import loss_at_once, num_tokens_at_once
from fettle.training.loop import train
from fettle.training.memory_plan import MemoryPlan, chosen_way, plan_memory
from fettle.training.settings import Checkpointing, Method, TrainingSettings
from fettle.training.trainable import trainable
from tiny_models import load_tiny_model, save_deep_model, save_tiny_model


def row(number: int, *, num_shared: int, length: int) -> TokenisedExample:
    ids = (*range(4, 4 + num_shared), *(100 + (number * 7 + place) % 290 for place in range(length)))
    return TokenisedExample(example_id=str(number), token_ids=ids, is_trained=(*[False] * (len(ids) - 4), *[True] * 4))


ROWS = tuple(row(number, num_shared=40, length=20 + 5 * (number % 7)) for number in range(40))
LORA, FULL = TrainingSettings(batch_size=8), TrainingSettings(method=Method.FULL, batch_size=8)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`free(number)`: the machine has so many bytes left."""
    return lambda number: monkeypatch.setattr(memory_plan, "free_memory_bytes", lambda _device: number)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of which checkpointing saves much."""
    return load_tiny_model(save_deep_model(tmp_path_factory.mktemp("deep") / "model", num_layers=12))


def planned(loaded: Any, settings: TrainingSettings) -> MemoryPlan:
    return plan_memory(loaded, ROWS, settings)


def test_all_weights_take_twenty_bytes_each(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = tiny_model("llama")
    num_weights = sum(weight.numel() for weight in loaded.model.parameters())
    assert planned(loaded, FULL).trained == 16 * num_weights  # and the model itself is held already
    in_bf16 = load_model(resolve_model(str(save_tiny_model(tmp_path / "model", "llama"))), Precision.FAST)
    assert planned(in_bf16, FULL).trained == 20 * num_weights  # masters beside the model


def test_an_adapter_takes_little(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")
    chosen = trainable(loaded, LORA)
    num_trained = sum(master.numel() for master in chosen.masters.values())
    chosen.release()
    assert planned(loaded, LORA).trained == 20 * num_trained


@pytest.mark.parametrize("settings", [LORA, FULL], ids=["adapter", "all-weights"])
def test_what_a_step_keeps_is_foreseen(deep: Any, settings: TrainingSettings) -> None:
    foreseen = planned(deep, settings).activations
    heaviest = sorted(ROWS, key=lambda one: len(one.token_ids))[-8:]
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    chosen = trainable(deep, settings)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss_at_once(deep.model, heaviest)
    chosen.release()
    for weight in deep.model.parameters():
        sizes.pop(weight.untyped_storage().data_ptr(), None)
    assert 1.0 < foreseen / sum(sizes.values()) < 1.8


def test_as_many_tokens_at_once_are_chosen_as_fit(deep: Any, free: Callable[[float], None]) -> None:
    many = replace(LORA, batch_size=40)  # 2,400 tokens, less what they share
    free(1e12)
    plenty, none_kept = planned(deep, many), planned(deep, replace(many, checkpointing=Checkpointing.ON))
    assert (plenty.max_tokens, plenty.recomputes) == (4096, False)
    fitting = [replace(many, micro_batch_tokens=size) for size in (1024, 512)]
    smaller = [planned(deep, settings).needed for settings in fitting]
    for needed, size in zip(smaller, (1024, 512), strict=True):
        free(needed)
        chosen = planned(deep, many)
        assert (chosen.max_tokens, chosen.recomputes, chosen.needed) == (size, False, needed)
    free(min(smaller) - 1)
    assert planned(deep, many).recomputes, "layers are computed again where fewer tokens do not help"
    free(1e12)
    asked = planned(deep, replace(many, micro_batch_tokens=100))
    assert (asked.max_tokens, asked.recomputes) == (100, False), "what the user says is heeded"
    assert none_kept.max_tokens == 4096


def test_layers_are_recomputed_only_where_memory_asks_for_it(deep: Any, free: Callable[[float], None]) -> None:
    whole = replace(LORA, micro_batch_tokens=4096)
    free(1e12)
    plenty = planned(deep, whole)
    always = planned(deep, replace(whole, checkpointing=Checkpointing.ON))
    assert (plenty.recomputes, always.recomputes) == (False, True)
    assert always.activations < 0.4 * plenty.activations
    free((always.needed + plenty.needed) / 2)
    assert planned(deep, whole).recomputes
    with pytest.raises(ResourceError, match=r"training needs about .*--method qlora.*--checkpointing on"):
        planned(deep, replace(whole, checkpointing=Checkpointing.OFF))
    free(always.needed / 2)
    with pytest.raises(ResourceError, match=r"a smaller --micro-batch-tokens \(4,096 are too many\)"):
        planned(deep, whole)


def test_fewer_tokens_at_once_need_less(deep: Any) -> None:
    assert planned(deep, replace(LORA, micro_batch_tokens=100)).needed < planned(deep, LORA).needed


def test_further_processes_bring_a_model_each(deep: Any) -> None:
    one, two = planned(deep, LORA), planned(deep, replace(LORA, processes=2))
    assert two.activations < one.activations, "each has a part of the batch"
    assert two.needed > 2 * two.trained + 2 * two.activations


def test_all_weights_are_refused_before_anything_is_made(
    tiny_model: Callable[[str], Any], free: Callable[[float], None], tmp_path: Path
) -> None:
    free(1000)
    with pytest.raises(ResourceError, match=r"training all weights needs .* 0.0 GiB are free.*--method lora or qlora"):
        train(tiny_model("llama"), ROWS, ROWS[:4], FULL, folder=tmp_path / "run", run_key="key")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("max_tokens", [10_000, 200, 90, 10])
def test_the_tokens_at_once_are_bounded(max_tokens: int) -> None:
    longest = max(len(one.token_ids) for one in ROWS)
    bound = max(max_tokens, longest)
    assert (
        longest - 1 <= num_tokens_at_once(ROWS[:8], max_tokens=max_tokens) <= bound + 40
    )  # what they share beside them
    assert num_tokens_at_once(ROWS[:8], max_tokens=max_tokens, plainly=True) <= max(bound, longest) * 1.5


def memory(**others: Any) -> MemoryPlan:
    return MemoryPlan(
        held=1000,
        trained=10,
        activations=100,
        max_tokens=4096,
        recomputes=False,
        num_processes=3,
        of_a_helper=500,
        **others,
    )


def test_what_is_needed_is_counted_where_it_is_taken_from() -> None:
    assert memory().needed == 3 * 110 + 2 * 500
    assert memory(has_own_memory=True).needed == 110, "the others have a GPU each"
    assert memory(is_divided=True, whole_layers=40).needed == 3 * 150, "the others are there already"
    assert memory().peak == memory(has_own_memory=True).peak == memory(is_divided=True).peak == 1000 + 2 * 500 + 3 * 110


@pytest.mark.parametrize(
    ("asked", "planned_now", "begun_with", "taken"),
    [(None, 2048, None, 2048), (None, 2048, 512, 512), (None, 512, 2048, 512), (1024, 1024, 512, 1024)],
    ids=["new", "goes on with no more", "no more than fit now", "as the user says"],
)
def test_a_run_goes_on_with_no_more_tokens_at_once_than_it_began_with(
    deep: Any, asked: int | None, planned_now: int, begun_with: int | None, taken: int
) -> None:
    now = TrainingCost(seconds=1.0, peak_memory_bytes=1, num_tokens=1, max_tokens=planned_now, recomputes=True)
    first = None if begun_with is None else replace(now, max_tokens=begun_with, recomputes=False)
    settings = replace(LORA, micro_batch_tokens=asked)
    assert chosen_way(deep, ROWS, settings, planned=now, first=first) == (taken, True)
