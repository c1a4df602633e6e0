"""The small model of a router answers as the study's contender did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from fettle.answering.engine import GenerationOptions
from fettle.errors import ConfigError
from fettle.records import Answer, FinishReason, Message, Prompt, Usage
from fettle.routing.small import drawing, small_answering
from fettle.routing_records import RoutingRule

PROMPT = Prompt(example_id="p", messages=(Message(role="user", content="Where is it?"),))
OPTIONS = GenerationOptions(max_new_tokens=5)
SCORES = {"billing": -1.0, "delivery": -1.2}


@dataclass
class Telling:
    """An engine that remembers what it was asked."""

    name: str = "telling"
    max_tokens: int | None = None
    asked: list[GenerationOptions | tuple[str, ...]] = field(default_factory=list)

    def count_prompt_tokens(self, prompt: Prompt) -> int:
        return 1

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        return (tuple(range(len(prompts))),)

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        self.asked.append(options)
        return tuple(self._answer(f"drawn {options.sampling.seed}") for _ in prompts)

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        self.asked.append(tuple(choices))
        return tuple(replace(self._answer("delivery"), choice_log_likelihoods=SCORES) for _ in prompts)

    def choose_each(self, prompts: Sequence[Prompt], choices_of_each: Sequence[Sequence[str]]) -> tuple[Answer, ...]:
        return tuple(self.choose([prompt], one)[0] for prompt, one in zip(prompts, choices_of_each, strict=True))

    def close(self) -> None:
        pass

    def _answer(self, text: str) -> Answer:
        usage = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.1)
        return Answer(example_id="p", text=text, finish_reason=FinishReason.STOP, usage=usage)


@pytest.mark.parametrize(
    ("reading", "offsets", "label"),
    [
        ("greedy decoding", {}, "delivery"),
        ("label likelihood", {}, "billing"),
        ("calibrated label likelihood", {"billing": 0.0, "delivery": -0.5}, "delivery"),
    ],
)
def test_a_label_is_read_as_the_study_read_it(reading: str, offsets: dict[str, float], label: str) -> None:
    engine = Telling()
    rule = RoutingRule(
        measure="label_margin", threshold=0.0, labels=tuple(SCORES), reading=reading, label_offsets=offsets
    )
    assert small_answering(engine, rule, OPTIONS)(PROMPT).text == label
    assert engine.asked == [tuple(SCORES)]
    with pytest.raises(ConfigError, match="cannot be read by"):
        small_answering(engine, replace(rule, reading="tea leaves"), OPTIONS)


def test_a_written_answer_tells_its_log_probabilities_and_samples_are_drawn_with_seeds_of_their_own() -> None:
    engine = Telling()
    small_answering(engine, RoutingRule(measure="mean_token_log_probability", threshold=-1.0), OPTIONS)(PROMPT)
    [options] = engine.asked
    assert isinstance(options, GenerationOptions)
    assert options.num_top_log_probs == 0
    draw = drawing(engine, OPTIONS, num_samples=3, temperature=0.7)
    assert [one.text for one in draw(PROMPT)] == ["drawn 0", "drawn 1", "drawn 2"]
    assert [one.text for one in draw(PROMPT)] == ["drawn 0", "drawn 1", "drawn 2"]
    with pytest.raises(ConfigError):
        drawing(engine, OPTIONS, num_samples=1, temperature=0.7)
