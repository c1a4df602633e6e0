from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engines.local import LocalEngine
from fettle.contenders.few_shot import FixedShots
from fettle.contenders.language_model import LanguageModel, json_separators
from fettle.contenders.prompt import OwnPrompt
from fettle.errors import DataError
from fettle.records import Example, Location, Message, Task, TaskKind

LABELS = Task(kind=TaskKind.LABELS, reason="", labels=("refund", "late parcel"))
JSON = Task(kind=TaskKind.JSON, reason="")
TEXT = Task(kind=TaskKind.TEXT, reason="")
SCHEMA = json.dumps({"enum": [{"a": 1}, {"a": 2}]})


def example(answer: str, text: str = "Where is it?") -> Example:
    messages = (Message(role="user", content=text), Message(role="assistant", content=answer))
    return Example(id=text, messages=messages, source=Location(file="a", line=1))


@pytest.mark.parametrize(
    ("answers", "separators"),
    [
        (['{"a": 1, "b": [1, 2]}', '{"a": 2, "b": []}'], (", ", ": ")),
        (['{"a":1,"b":[1,2]}', ' {"a":"ö","b":null}\n'], (",", ":")),
        (['{"a": "\\u00f6"}', '{"a": "ö"}'], (", ", ": ")),
        (['{"a": 1}', '{"a":1}'], (None, None)),
        (['{"a" : 1}'], (None, None)),
        (['{\n  "a": 1\n}'], (None, None)),
        (['{"a": 1}', "no json"], (None, None)),
    ],
)
def test_separators_are_those_that_all_answers_agree_on(
    answers: list[str], separators: tuple[str | None, str | None]
) -> None:
    assert json_separators(answers) == separators


def arm(loaded: Any, task: Task, options: GenerationOptions) -> LanguageModel:
    return LanguageModel(
        name="prompt", title="Prompt only", engine=LocalEngine(loaded), style=OwnPrompt(), task=task, options=options
    )


def test_it_answers_as_its_task_demands(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")
    asked = [example("secret", text) for text in ("Where?", "I want my money back", "x")]
    form = JsonForm(schema=SCHEMA, item_separator=", ", key_separator=": ")
    labels = arm(loaded, LABELS, GenerationOptions(max_new_tokens=3)).answer(asked)
    assert {answer.text for answer in labels} <= set(LABELS.labels)
    assert all(answer.choice_log_likelihoods is not None for answer in labels)
    values = arm(loaded, JSON, GenerationOptions(max_new_tokens=30, form=form)).answer(asked)
    assert {answer.text for answer in values} <= {'{"a": 1}', '{"a": 2}'}
    texts = arm(loaded, TEXT, GenerationOptions(max_new_tokens=3)).answer(asked)
    assert [answer.example_id for answer in texts] == [one.id for one in asked]
    assert all(answer.usage.completion_tokens <= 3 for answer in texts)


def test_it_never_shows_the_wanted_answer_to_the_model(tiny_model: Callable[[str], Any]) -> None:
    contender = arm(tiny_model("llama"), TEXT, GenerationOptions(max_new_tokens=3))
    one, other = example("refund"), example("something else altogether")
    assert contender.prompt(one) == contender.prompt(other)


def test_its_identity_changes_with_whatever_could_change_its_answers(tiny_model: Callable[[str], Any]) -> None:
    contender = arm(tiny_model("llama"), LABELS, GenerationOptions(max_new_tokens=3))
    identities = {
        contender.identity(),
        replace(contender, options=GenerationOptions(max_new_tokens=4)).identity(),
        replace(contender, style=OwnPrompt("A hint.")).identity(),
        replace(contender, style=OwnPrompt("Another hint.")).identity(),
        replace(contender, engine_identity="other weights").identity(),
        replace(contender, task=replace(LABELS, labels=("refund",))).identity(),
        replace(contender, task=TEXT).identity(),
    }
    assert len(identities) == 7
    assert contender.identity() == arm(tiny_model("llama"), LABELS, GenerationOptions(max_new_tokens=3)).identity()


def test_shots_that_do_not_fit_beside_a_long_message_are_left_out_one_by_one(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")  # takes 1,024 tokens
    shots = tuple(example("refund", f"shot {number} " + "parcel " * 150) for number in range(4))
    options = GenerationOptions(max_new_tokens=20)
    contender = replace(arm(loaded, TEXT, options), style=FixedShots(shots))
    counts = {}
    for num_words in (1, 500, 700, 960):
        asked = example("refund", "late " * num_words)
        prompt = contender.prompt(asked)
        assert contender.is_shortened(asked) == (num_words > 1)
        counts[num_words] = sum(message.role == "assistant" for message in prompt.messages)
        if counts[num_words]:
            assert contender.engine.count_prompt_tokens(prompt) + 20 <= loaded.max_tokens
            assert "shot 3" in prompt.messages[-3].content  # the last ones are kept
    assert counts[1] == 4
    assert 0 < counts[700] < counts[500] < 4
    assert counts[960] == 0


@pytest.mark.parametrize("style", [OwnPrompt("Be brief. " * 60), FixedShots((), "Be brief. " * 60)])
def test_a_hint_that_does_not_fit_beside_a_long_message_is_left_out(
    tiny_model: Callable[[str], Any], style: Any
) -> None:
    contender = replace(arm(tiny_model("llama"), TEXT, GenerationOptions(max_new_tokens=20)), style=style)
    assert "Be brief." in contender.prompt(example("refund")).messages[0].content
    assert "Be brief." not in contender.prompt(example("refund", "late " * 900)).messages[0].content


def test_an_answer_ends_where_the_model_takes_no_more(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")  # takes 1,024 tokens
    contender = arm(loaded, TEXT, GenerationOptions(max_new_tokens=200))
    long = example("refund", "late " * 940)
    room = loaded.max_tokens - contender.engine.count_prompt_tokens(contender.prompt(long))
    assert 0 < room < 200
    [answer] = contender.answer([long])
    assert answer.usage.completion_tokens <= room
    with pytest.raises(DataError, match="leaves no room for an answer: the model takes 1,024"):
        contender.answer([example("refund", "late " * 1030)])


@pytest.mark.parametrize("task", [LABELS, JSON, TEXT])
def test_a_remote_model_is_said_to_be_asked_zero_shot_and_held_to_no_form(
    tiny_model: Callable[[str], Any], task: Task
) -> None:
    contender = arm(tiny_model("llama"), task, GenerationOptions(max_new_tokens=3))
    told = replace(contender, is_remote=True).describe()
    assert told.endswith("One zero-shot prompt: it is shown no examples, and no variants of the prompt are tried")
    assert not any(enforced in told for enforced in ("can only answer", "is kept inside"))
    assert "zero-shot" not in contender.describe()
