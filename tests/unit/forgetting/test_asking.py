"""The suite put to engines: what is asked, in which batches, and what is right."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from fettle.answering.engine import GenerationOptions
from fettle.forgetting.ask import MAX_ANSWER_TOKENS, ask, likeliest_choice, score_items
from fettle.forgetting.items import Choice, general_suite
from fettle.progress import SilentListener, Stage
from fettle.records import Answer, FinishReason, Prompt, Usage

SUITE = general_suite()
USAGE = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.0)


@dataclass
class Scholar:
    """Knows every answer of the suite, or none."""

    is_right: bool
    asked: list[tuple[int, str]] = field(default_factory=list)
    name: str = "scholar"
    max_tokens: int | None = None

    def count_prompt_tokens(self, prompt: Prompt) -> int:
        return len(prompt.messages)

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        return tuple((index,) for index in reversed(range(len(prompts))))

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        self.asked.append((options.max_new_tokens, "written"))
        return tuple(self._said(prompt, self._text(prompt)) for prompt in prompts)

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        raise NotImplementedError

    def choose_each(self, prompts: Sequence[Prompt], choices_of_each: Sequence[Sequence[str]]) -> tuple[Answer, ...]:
        self.asked += [(len(choices), "chosen") for choices in choices_of_each]
        asked = zip(prompts, choices_of_each, strict=True)
        return tuple(self._said(prompt, self._text(prompt), choices) for prompt, choices in asked)

    def close(self) -> None: ...

    def _text(self, prompt: Prompt) -> str:
        expected = next(item.expected for item in SUITE if item.id == prompt.example_id)
        if isinstance(expected, Choice):
            wrong = next(choice for choice in expected.choices if choice != expected.right)
            return expected.right if self.is_right else wrong
        return expected.sample if self.is_right else expected.counterexample

    def _said(self, prompt: Prompt, text: str, choices: Sequence[str] = ()) -> Answer:
        likelihoods = {choice: 0.0 if choice == text else -1.0 for choice in choices}
        return Answer(
            example_id=prompt.example_id,
            text=text,
            finish_reason=FinishReason.STOP,
            usage=USAGE,
            choice_log_likelihoods=likelihoods or None,
        )


class Counting(SilentListener):
    def __init__(self) -> None:
        self.stages: list[Stage] = []

    def on_stage(self, stage: Stage) -> None:
        self.stages.append(stage)


@pytest.mark.parametrize("is_right", [True, False])
def test_whoever_knows_all_is_right_everywhere_and_whoever_knows_nothing_nowhere(is_right: bool) -> None:
    engine, listener = Scholar(is_right=is_right), Counting()
    answers = ask(engine, SUITE, listener, who="the base model")
    assert [answer.example_id for answer in answers] == [item.id for item in SUITE]
    assert {score.value for score in score_items(SUITE, answers)} == {float(is_right)}
    assert {limit for limit, how in engine.asked if how == "written"} == {MAX_ANSWER_TOKENS}
    assert [stage.num_done for stage in listener.stages] == sorted(stage.num_done for stage in listener.stages)
    assert listener.stages[-1].num_done == listener.stages[-1].num_total == len(SUITE)


def answer(text: str, likelihoods: dict[str, float] | None) -> Answer:
    return Answer(
        example_id="x", text=text, finish_reason=FinishReason.STOP, usage=USAGE, choice_log_likelihoods=likelihoods
    )


def test_the_likeliest_choice_counts_not_the_one_that_greedy_decoding_walked_into() -> None:
    assert likeliest_choice(answer("a", {"a": -2.0, "b": -1.0})) == "b"
    assert likeliest_choice(answer("a", {"b": -1.0, "c": -1.0})) == likeliest_choice(
        answer("a", {"c": -1.0, "b": -1.0})
    )
    assert likeliest_choice(answer("a", None)) == "a"


def test_a_failed_request_is_unscored_and_no_zero() -> None:
    item = SUITE[0]
    failed = Answer(
        example_id=item.id, text="", finish_reason=FinishReason.ERROR, usage=USAGE, error="the endpoint is away"
    )
    (score,) = score_items([item], [failed])
    assert score.value is None
    assert score.reason == "no answer: the endpoint is away"
