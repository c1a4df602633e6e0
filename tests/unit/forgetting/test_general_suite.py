"""Every item of the bundled suite can be scored, in one way, and none of it is trained on."""

import re
from collections import Counter

import pytest

from fettle.errors import IntegrityError
from fettle.examples.duplicates import find_leaks, plain_words
from fettle.forgetting import items as items_module
from fettle.forgetting.items import Category, Choice, GeneralItem, JsonShape, Pattern, general_suite, suite_sha256
from fettle.forgetting.replay import replay_prompts
from fettle.records import Example, Location, Message

SUITE = general_suite()
BY_CHOICE = [item for item in SUITE if isinstance(item.expected, Choice)]
WRITTEN = [item for item in SUITE if not isinstance(item.expected, Choice)]
PLACEHOLDERS = re.compile(r"\b(TODO|XXX|lorem|foo|bar)\b", re.IGNORECASE)


def named(item: GeneralItem) -> str:
    return item.id


def test_the_suite_is_large_and_varied() -> None:
    assert len(SUITE) >= 240
    counts = Counter(item.category for item in SUITE)
    assert set(counts) == set(Category)
    assert min(counts.values()) >= 20
    assert len(BY_CHOICE) > len(WRITTEN) >= 40


def test_ids_and_questions_are_unique() -> None:
    assert len({item.id for item in SUITE}) == len(SUITE)
    assert [asked for asked, count in Counter(plain_words(item.question) for item in SUITE).items() if count > 1] == []


@pytest.mark.parametrize("item", SUITE, ids=named)
def test_an_item_is_clean_text(item: GeneralItem) -> None:
    assert item.question == item.question.strip()
    assert len(item.question) < 600
    assert not PLACEHOLDERS.search(item.question)
    assert item.id.startswith(f"{item.category.value}-")


@pytest.mark.parametrize("item", BY_CHOICE, ids=named)
def test_one_of_four_different_choices_is_right(item: GeneralItem) -> None:
    assert isinstance(item.expected, Choice)
    choices = item.expected.choices
    assert len(set(choices)) == len(choices) == 4
    assert choices.count(item.expected.right) == 1
    assert all(choice == choice.strip() and choice for choice in choices)


@pytest.mark.parametrize("category", Category)
def test_the_right_choice_stands_everywhere_alike(category: Category) -> None:
    places = Counter(
        item.expected.choices.index(item.expected.right)
        for item in BY_CHOICE
        if item.category is category and isinstance(item.expected, Choice)
    )
    assert max(places[place] for place in range(4)) - min(places[place] for place in range(4)) <= 1


@pytest.mark.parametrize("item", WRITTEN, ids=named)
def test_a_sample_is_accepted_and_its_counterexample_and_the_question_itself_are_not(item: GeneralItem) -> None:
    assert isinstance(item.expected, Pattern | JsonShape)
    assert item.expected.accepts(item.expected.sample)
    assert not item.expected.accepts(item.expected.counterexample)
    assert not item.expected.accepts("")
    assert len(item.expected.sample) <= 60  # fits into the tokens that an answer may have


@pytest.mark.parametrize("item", [one for one in WRITTEN if one.category is not Category.READING], ids=named)
def test_repeating_the_question_is_no_answer(item: GeneralItem) -> None:
    assert isinstance(item.expected, Pattern | JsonShape)
    assert not item.expected.accepts(item.question)


def test_no_item_is_among_the_prompts_that_are_replayed() -> None:
    prompts = replay_prompts()
    assert len(prompts) >= 150
    assert len({plain_words(prompt) for prompt in prompts}) == len(prompts)
    leaks = find_leaks(
        [asked(f"replay {place}", prompt) for place, prompt in enumerate(prompts)],
        [asked(item.id, item.question) for item in SUITE],
    )
    assert [(leak.first.user_text, leak.second.user_text) for leak in leaks] == []


def asked(name: str, text: str) -> Example:
    messages = (Message(role="user", content=text), Message(role="assistant", content="-"))
    return Example(id=name, messages=messages, source=Location(file="suite", line=1))


def test_items_about_one_text_belong_together() -> None:
    passages = {item.question.split("\n\n")[0]: item.group for item in SUITE if "\n\n" in item.question}
    groups = Counter(item.group for item in SUITE if item.category is Category.READING)
    assert len(passages) == len(set(passages.values())) == len(groups) == 10
    assert set(groups.values()) == {4}


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "a", "question": "q", "choices": ["1", "2", "3", "4"], "right": "5"}',
        '{"id": "a", "question": "q", "choices": ["1", "2", "3"], "right": "1"}',
        '{"id": "a", "question": "q", "pattern": "x"}',
        '{"id": "a", "question": "q", "sample": "x", "counterexample": "y"}',
        '{"id": "a", "question": "q", "patern": "x"}',
        "{",
    ],
)
def test_a_damaged_file_is_refused_by_name(line: str, tmp_path, monkeypatch) -> None:
    (tmp_path / "facts.jsonl").write_text(line + "\n")
    monkeypatch.setattr(items_module, "_FOLDER", tmp_path)
    with pytest.raises(IntegrityError, match=r"facts\.jsonl: the bundled general suite cannot be read"):
        general_suite()


def test_the_suite_has_one_hash() -> None:
    assert len(suite_sha256()) == 64
