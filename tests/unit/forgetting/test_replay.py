"""Replay: as many general examples as the share says, answered by the base model itself, each prompt once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fettle.answering.engine import GenerationOptions
from fettle.answering.engines import plain
from fettle.answering.engines.local import LocalEngine
from fettle.errors import ConfigError
from fettle.forgetting import replay
from fettle.forgetting.replay import MAX_ANSWER_TOKENS, Replay, ReplaySettings, replay_prompts
from fettle.models.load import LoadedModel
from fettle.records import Answer, Example, FinishReason, Message, Prompt, Usage

NOT_ENDING = "joke"
"""Prompts with this word are answered without an end."""


class Writer:
    """Answers every prompt in a few words, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        return tuple((index,) for index in range(len(prompts)))

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        assert options.max_new_tokens == MAX_ANSWER_TOKENS
        self.asked += [prompt.messages[0].content for prompt in prompts]
        return tuple(
            Answer(
                example_id=prompt.example_id,
                text="about " + prompt.messages[0].content[:10],
                finish_reason=FinishReason.LENGTH if NOT_ENDING in prompt.example_id else FinishReason.STOP,
                usage=Usage(prompt_tokens=1, completion_tokens=1, seconds=0.0),
            )
            for prompt in prompts
        )


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    made = Writer()
    monkeypatch.setattr(plain, "local_engine", lambda _: made)
    return made


def replayed(
    loaded: LoadedModel,
    folder: Path,
    *,
    share: float,
    num_examples: int = 190,
    seed: int = 0,
    held_out: Sequence[Example] = (),
) -> Replay:
    return replay.replayed(
        loaded, ReplaySettings(share=share), num_examples=num_examples, folder=folder, seed=seed, held_out=held_out
    )


def test_as_many_as_the_share_says(tiny_model: Callable[[str], Any], tmp_path: Path, writer: Writer) -> None:
    found = replayed(tiny_model("llama"), tmp_path, share=0.05)
    assert len(found.examples) == found.num_wanted == 10
    assert found.num_wanted / (190 + found.num_wanted) == pytest.approx(0.05)
    assert len({example.id for example in found.examples}) == 10
    assert len(writer.asked) == 10 + found.num_passed_over


def test_what_is_learned_is_the_base_models_own_answer(
    tiny_model: Callable[[str], Any], tmp_path: Path, writer: Writer
) -> None:
    renderer = tiny_model("llama").renderer
    (example,) = replayed(tiny_model("llama"), tmp_path, share=0.005).examples
    (row,) = renderer.example_rows(example)
    said = [token for token, is_said in zip(row.token_ids, row.is_trained, strict=True) if is_said]
    assert renderer.decode(said) == "about " + writer.asked[-1][:10]
    assert said[-1] == renderer.end_of_turn_id


def test_a_share_of_nothing_asks_nothing(tiny_model: Callable[[str], Any], tmp_path: Path, writer: Writer) -> None:
    assert replayed(tiny_model("llama"), tmp_path, share=0) == Replay(examples=(), num_wanted=0, num_passed_over=0)
    assert writer.asked == []


def test_every_prompt_is_asked_once_for_a_model(
    tiny_model: Callable[[str], Any], tmp_path: Path, writer: Writer
) -> None:
    first = replayed(tiny_model("llama"), tmp_path, share=0.1)
    num_asked = len(writer.asked)
    assert replayed(tiny_model("llama"), tmp_path, share=0.1) == first
    assert len(writer.asked) == num_asked
    larger = replayed(tiny_model("llama"), tmp_path, share=0.2)
    assert len(larger.examples) > len(first.examples)
    assert len(set(writer.asked)) == len(writer.asked)
    replayed(tiny_model("qwen2"), tmp_path, share=0.1)
    assert len(set(writer.asked)) < len(writer.asked)  # another model has answers of its own


def test_the_seed_chooses_among_the_prompts(tiny_model: Callable[[str], Any], tmp_path: Path, writer: Writer) -> None:
    one, other = (replayed(tiny_model("llama"), tmp_path, share=0.05, seed=seed) for seed in (0, 1))
    assert {example.id for example in one.examples} != {example.id for example in other.examples}


def test_answers_that_do_not_end_are_passed_over_and_counted(
    tiny_model: Callable[[str], Any], tmp_path: Path, writer: Writer
) -> None:
    found = replayed(tiny_model("llama"), tmp_path, share=0.5, num_examples=10_000)
    num_endless = sum(NOT_ENDING in prompt for prompt in replay_prompts())
    assert num_endless > 0
    assert found.num_passed_over == num_endless
    assert len(found.examples) == len(replay_prompts()) - num_endless < found.num_wanted == 10_000
    (file,) = tmp_path.glob("*.jsonl")
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert sum(row["answer"] is None for row in kept) == num_endless


def test_what_is_held_out_is_not_replayed(tiny_model: Callable[[str], Any], tmp_path: Path, writer: Writer) -> None:
    first = replayed(tiny_model("llama"), tmp_path, share=0.05)
    nearly = Message(role="user", content=f"Hi team, {first.examples[0].user_text} Thanks")
    held_out = [replace(first.examples[0], messages=(nearly, first.examples[0].messages[-1])), *first.examples[1:4]]
    other = replayed(tiny_model("llama"), tmp_path, share=0.05, held_out=held_out)
    assert len(other.examples) == len(first.examples)
    assert {example.id for example in first.examples} - {example.id for example in other.examples} == {
        example.id for example in first.examples[:4]
    }
    assert len(set(writer.asked)) == len(writer.asked)


@pytest.mark.parametrize("share", [-0.01, 0.51, float("nan")])
def test_a_share_is_at_most_one_half(share: float) -> None:
    with pytest.raises(ConfigError, match="replay share"):
        ReplaySettings(share=share)


def test_a_real_engine_is_asked_where_nobody_stands_in(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = tiny_model("llama")
    found = replayed(loaded, tmp_path, share=0.01, num_examples=100)
    engine = LocalEngine(loaded)
    (file,) = tmp_path.glob("*.jsonl")
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(kept) == len(found.examples) + found.num_passed_over
    assert engine.name == loaded.name  # the model is bare again
