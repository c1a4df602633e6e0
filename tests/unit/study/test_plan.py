from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_studies import LABEL_TASK, example, split

from chat_templates import CHATML
from fettle.chat.renderer import ChatRenderer
from fettle.errors import DataError
from fettle.records import Message, Task, TaskKind, Tool, ToolCall, num_text_bytes
from fettle.report_records import TrainingCost
from fettle.retrieval.fence import ABSTENTION, Wording
from fettle.retrieval.records import SearchSettings
from fettle.study.plan import Estimate, fit_to_context, generation_options, tokenise
from fettle.study.power import power_of
from fettle.study.settings import DocumentSettings, StudySettings
from fettle.study.wording import wording_of
from tiny_models import tiny_tokenizer

SETTINGS = StudySettings(examples=Path("small.jsonl"))
LONG = "0123456789" * 100


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return ChatRenderer(tiny_tokenizer(CHATML))


def parts(long: int | None = None) -> dict[str, list]:
    examples = [example(number, text=LONG if number == long else None) for number in range(9)]
    return {"train": examples[:5], "valid": examples[5:7], "test": examples[7:]}


def test_short_examples_all_fit(renderer: ChatRenderer) -> None:
    data = split(**parts())
    assert fit_to_context(data, renderer, max_tokens=500, leave_out=False) == (data, ())


@pytest.mark.parametrize(("long", "part"), [(2, "train"), (5, "valid"), (8, "test")])
def test_a_long_example_is_named_or_left_out(renderer: ChatRenderer, long: int, part: str) -> None:
    data = split(**parts(long))
    with pytest.raises(DataError, match=rf"longer than the 500 tokens.*small.jsonl:{long}\..*--leave-out-long"):
        fit_to_context(data, renderer, max_tokens=500, leave_out=False)
    fitted, left_out = fit_to_context(data, renderer, max_tokens=500, leave_out=True)
    assert [one.id for one in left_out] == [f"e{long}"]
    for name, kept in (("train", fitted.train), ("valid", fitted.valid), ("test", fitted.test)):
        assert len(kept) == len(parts()[name]) - (name == part)


def test_the_limit_is_exact(renderer: ChatRenderer) -> None:
    data = split(**parts(2))
    one = data.train[2]
    length = len(renderer.example_rows(one)[0].token_ids)
    assert fit_to_context(data, renderer, max_tokens=length, leave_out=False) == (data, ())
    with pytest.raises(DataError, match="longer than"):
        fit_to_context(data, renderer, max_tokens=length - 1, leave_out=False)


def test_tools_and_calls_count_towards_the_length(renderer: ChatRenderer) -> None:
    data = split(**parts())
    tool = Tool(name="look_up", description=LONG)
    asked = replace(data, train=(replace(data.train[0], tools=(tool,)), *data.train[1:]))
    with pytest.raises(DataError, match=r"longer than the 500 tokens.*small.jsonl:0\."):
        fit_to_context(asked, renderer, max_tokens=500, leave_out=False)
    call = ToolCall(id="1", name="look_up", arguments=LONG)
    messages = (Message(role="assistant", content="", tool_calls=(call,)), *data.train[0].messages)
    assert num_text_bytes(messages, (tool,)) == num_text_bytes(data.train[0].messages, ()) + 2 * (len(LONG) + 7) + len(
        "{}"
    )


def test_leaving_out_does_not_empty_a_part(renderer: ChatRenderer) -> None:
    data = split(train=[example(0)], valid=[example(1)], test=[example(2, text=LONG)])
    with pytest.raises(DataError, match="nothing is left in: test"):
        fit_to_context(data, renderer, max_tokens=500, leave_out=True)


def test_answers_may_be_a_quarter_longer_than_the_longest_training_answer(renderer: ChatRenderer) -> None:
    data = split(train=[example(0, "short"), example(1, "x" * 200)], valid=[example(2, "y" * 900)], test=[example(3)])
    longest = len(renderer.answer_tokens("x" * 200))
    options = generation_options(SETTINGS, LABEL_TASK, data, renderer)
    assert options.max_new_tokens == 2 * longest + 8, "held-out answers are not looked at"
    assert options.json_form is None
    told = StudySettings(examples=Path("small.jsonl"), max_new_tokens=5)
    assert generation_options(told, LABEL_TASK, data, renderer).max_new_tokens == 5


def test_there_is_room_to_abstain_and_to_name_passages_however_short_the_answers_are(renderer: ChatRenderer) -> None:
    data = split(train=[example(0, "no"), example(1, "yes")], valid=[], test=[])
    settings = replace(SETTINGS, documents=DocumentSettings(place="manual", search=SearchSettings(num_passages=5)))
    text = Task(kind=TaskKind.TEXT, reason="")
    wording = wording_of(text, data.train)
    limit = generation_options(settings, text, data, renderer, wording).max_new_tokens
    assert limit >= len(renderer.answer_tokens(ABSTENTION))
    assert limit >= len(renderer.answer_tokens("yes [1][2][3][4][5]"))
    assert limit > generation_options(SETTINGS, text, data, renderer).max_new_tokens
    labels = generation_options(settings, LABEL_TASK, data, renderer, wording_of(LABEL_TASK, data.train))
    assert labels.max_new_tokens == generation_options(SETTINGS, LABEL_TASK, data, renderer).max_new_tokens


def test_what_models_are_told_comes_from_the_training_answers() -> None:
    text = Task(kind=TaskKind.TEXT, reason="")
    own = [example(number, "The manual does not say.") for number in range(3)]
    assert wording_of(text, own) == Wording(abstention="The manual does not say.")
    numbered = [example(number, "Five days [2].") for number in range(3)]
    assert wording_of(text, numbered) == Wording(asks_for_citations=False)
    assert wording_of(LABEL_TASK, own) == Wording(abstention=None, asks_for_citations=False)


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_json_is_kept_in_the_form_of_the_training_answers(renderer: ChatRenderer, separators: tuple[str, str]) -> None:
    schema = '{"type": "object"}'
    task = Task(kind=TaskKind.JSON, reason="said so", json_schema=schema)
    answers = [json.dumps({"a": number, "b": [1, 2]}, separators=separators) for number in range(3)]
    data = split(train=[example(number, text) for number, text in enumerate(answers)], valid=[], test=[])
    form = generation_options(SETTINGS, task, data, renderer).json_form
    assert form is not None
    assert (form.schema, form.item_separator, form.key_separator) == (schema, *separators)


def test_tokens_of_training_and_validation(renderer: ChatRenderer) -> None:
    data = split(**parts())
    tokens = tokenise(renderer, data)
    assert [one.example_id for one in tokens.train] == [one.id for one in data.train]
    assert [one.example_id for one in tokens.valid] == [one.id for one in data.valid]
    assert tokens.num_train_tokens == sum(len(renderer.example_rows(one)[0].token_ids) for one in data.train)


def test_what_the_test_can_show_counts_clusters() -> None:
    data = split(train=[example(100)], valid=[example(101)], test=[example(number) for number in range(80)])
    alone = power_of(data, is_binary=True).of_scores
    assert (alone.num_examples, alone.num_clusters) == (80, 80)
    assert 0 < alone.smallest_difference < 1
    assert alone.num_examples_to_halve > 80


def test_minutes_are_those_of_training_and_answering() -> None:
    training = TrainingCost(seconds=90.0, peak_memory_bytes=1, num_tokens=1)
    assert Estimate(training=training, answer_seconds=30.0, base_bytes=1).minutes == 2.0
