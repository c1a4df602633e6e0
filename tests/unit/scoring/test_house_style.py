import random

import pytest

from fettle.records import Answer, Example, FinishReason, Location, Message, Task, TaskKind, Usage
from fettle.scoring.graders.house_style import HouseStyle, learn_house_style
from fettle.scoring.ordinary_replies import ORDINARY_REPLIES
from fettle.scoring.registry import default_graders
from fettle.scoring.style_rules import (
    Avoids,
    Feature,
    HasBetween,
    Measure,
    RepeatsPlaceholders,
    RepeatsReferences,
    Shows,
)

MIDDLES = (
    "Your parcel went to the wrong depot. I have asked our driver to bring it tomorrow before noon.",
    "Nobody was at home when our driver called. A second visit is planned for Friday before 4 pm.",
    "We see the dent in your photograph. I have opened a claim and you hear from me by Tuesday at noon.",
    "The safe place you chose was locked. Our driver kept the parcel and comes again on Monday before 5 pm.",
)


def exchange(number: int, asked: str, reply: str) -> Example:
    messages = (Message(role="user", content=asked), Message(role="assistant", content=reply))
    return Example(id=f"e{number}", messages=messages, source=Location(file="a.jsonl", line=number + 1))


def house_examples(num_examples: int) -> list[Example]:
    chosen = random.Random(1)
    examples = []
    for number in range(num_examples):
        name, reference = (
            chosen.choice(["Ann", "Bo", "Priya"]),
            f"LW {chosen.randint(1000, 9999)} {number % 900 + 100} {number % 7}",
        )
        reply = f"Hello {name},\n\n{chosen.choice(MIDDLES)} Your parcel: {reference}\n\nReply here any time.\nMaren, Larkway"
        examples.append(exchange(number, f"hi!! where is {reference}?? thx {name} 😡", reply))
    return examples


@pytest.fixture(scope="module")
def house_style() -> HouseStyle:
    return learn_house_style(house_examples(80))


def score(house_style: HouseStyle, asked: str, reply: str) -> float | None:
    usage = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)
    answer = Answer(example_id="e0", text=reply, finish_reason=FinishReason.STOP, usage=usage)
    return house_style.score(exchange(0, asked, "anything"), answer).value


def test_the_profile_says_the_habits_in_words(house_style: HouseStyle) -> None:
    profile = house_style.describe()
    for habit in (
        'opens with "hello"',
        'closes with "reply here any time maren larkway"',
        "starts with a short line of its own",
        "never has an exclamation mark",
        "never has an emoji",
        "repeats the reference numbers",
        '"any inconvenience"',
    ):
        assert habit in profile


def test_replies_of_the_house_score_higher_than_ordinary_ones(house_style: HouseStyle) -> None:
    unseen = house_examples(120)[80:]
    ours = [score(house_style, example.input_text, example.answer) or 0.0 for example in unseen]
    ordinary = [score(house_style, unseen[0].input_text, reply) or 0.0 for reply in ORDINARY_REPLIES]
    assert min(ours) > 0.8
    assert max(ordinary) < 0.7


def test_an_empty_answer_has_no_style(house_style: HouseStyle) -> None:
    assert score(house_style, "hi", "") == 0.0
    assert score(house_style, "hi", " ?! ") == 0.0


def test_what_every_text_does_is_no_style(house_style: HouseStyle) -> None:
    assert Shows(Feature.PLACEHOLDER, is_wanted=False) not in house_style.rules
    assert all(rule.describe() != 'says "your"' for rule in house_style.rules)


def test_the_profile_does_not_depend_on_the_order_of_the_examples() -> None:
    examples = house_examples(60)
    assert learn_house_style(examples).rules == learn_house_style(examples[::-1]).rules


def test_few_or_unlike_answers_give_no_profile_and_no_default_grader() -> None:
    task = Task(kind=TaskKind.TEXT, reason="test")
    assert learn_house_style(house_examples(19)).rules == ()
    assert "house_style" not in [grader.name for grader in default_graders(task, house_examples(19))]
    assert "house_style" in [grader.name for grader in default_graders(task, house_examples(40))]
    assert score(HouseStyle(rules=()), "hi", "hello") is None
    assert "No house style" in HouseStyle(rules=()).describe()


class TestRules:
    def test_placeholders_must_be_kept_letter_by_letter(self) -> None:
        rule = RepeatsPlaceholders()
        assert rule.holds("cancel {{Order Number}}", "I cancel {{Order Number}}.") is True
        assert rule.holds("cancel {{Order Number}}", "I cancel {{order number}}.") is False
        assert rule.holds("cancel it", "I cancel {{Order Number}}.") is None

    def test_references_may_be_spaced_otherwise(self) -> None:
        rule = RepeatsReferences()
        assert rule.holds("LW44719023", "Your parcel: LW 4471 902 3") is True
        assert rule.holds("LW44719023", "Your parcel: LW 4471 902 4") is False
        assert rule.holds("flat 12", "flat 12") is None

    @pytest.mark.parametrize(
        ("feature", "text"),
        [
            (Feature.LIST, "Do this:\n1. one\n2. two"),
            (Feature.LIST, "- one"),
            (Feature.EMOJI, "fine 👍"),
            (Feature.BLANK_TO_FILL, "Regards, [Your Name]"),
            (Feature.MARKDOWN, "**now**"),
            (Feature.SINGULAR, "I’m here"),
            (Feature.CONTRACTION, "we don’t"),
        ],
    )
    def test_features_are_found(self, feature: Feature, text: str) -> None:
        assert feature.is_in(text)
        assert not feature.is_in("We come on the 3rd - before noon.")

    def test_counts(self) -> None:
        text = "Hello Ann,\n\nIt costs £3.50. Is that fine? Yes…\n\nMaren"
        assert [measure.of(text) for measure in Measure] == [11, 5, 3]
        assert [measure.of("") for measure in Measure] == [0, 0, 0]
        assert HasBetween(Measure.WORDS, 1, 1).describe() == "has 1 word"

    def test_a_phrase_is_not_found_inside_a_word(self) -> None:
        assert Avoids(("item",)).holds("", "the items") is True
        assert Avoids(("as soon as possible",)).holds("", "Come as soon as possible!") is False
