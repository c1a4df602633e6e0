from __future__ import annotations

import pytest

from fettle.records import Answer, Example, FinishReason, Location, Message, Usage
from fettle.scoring.graders.groundedness import Groundedness, groundedness, learn_groundedness, passages_of

PASSAGE = "The Normans gave their name to Normandy in the 10th century. Rollo swore fealty to King Charles III in 911."
NONE = "The documents do not answer this question."


def example(user: str, answer: str = "911", *, context: str = "", number: int = 0) -> Example:
    messages = (Message(role="user", content=user), Message(role="assistant", content=answer))
    return Example(id=f"e{number}", messages=messages, source=Location(file="a.jsonl", line=1), context=context)


def score(text: str, user: str = f"{PASSAGE}\n\nWhen did Rollo swear fealty?", grader: Groundedness | None = None):
    usage = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)
    said = Answer(example_id="e0", text=text, finish_reason=FinishReason.STOP, usage=usage)
    found = (grader or Groundedness()).score(example(user), said)
    return found.value, found.reason


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("911", 1.0),
        ("In 911.", 1.0),
        ("Rollo swore fealty in 911.", 1.0),
        ("912", 0.0),
        # 3 of 4 informative words (rollo, swore, fealty, 912), and half of the names and numbers after the first word: none of 1.
        ("Rollo swore fealty in 912.", 0.0),
        # 2 of 3 words, and no number or name is wrong.
        ("fealty was sworn to Rollo", (2 / 3) * 1.0),
        # The second sentence has nothing in common with the passage.
        ("Rollo swore fealty in 911. Bananas grow quickly.", 0.5),
        # Two of the three words, one of the two names: 2/3 x 1/2.
        ("king Charles Ottokar", 2 / 3 / 2),
    ],
)
def test_words_times_numbers_and_names_averaged_over_sentences(answer: str, wanted: float) -> None:
    assert groundedness(answer, passages=[PASSAGE]) == pytest.approx(wanted)


def test_what_only_the_question_says_counts_neither_way() -> None:
    said = "The Viking leader swore fealty in 911."
    asked = "When did the Viking leader swear fealty?"
    assert groundedness(said, passages=[PASSAGE], question=asked) == 1.0
    assert groundedness(said, passages=[PASSAGE]) == pytest.approx(3 / 5 * 1 / 2)
    assert groundedness("In 1066, the Viking leader.", passages=[PASSAGE], question=asked) == 0.0


@pytest.mark.parametrize(
    ("answer", "passage"), [("1,931 metres", "1931 metres"), ("Bridges", "the bridge"), ("10th", "10th")]
)
def test_endings_case_and_thousands_do_not_matter(answer: str, passage: str) -> None:
    assert groundedness(answer, passages=[passage]) == 1.0


@pytest.mark.parametrize("answer", ["", " ", "It is.", "?!"])
def test_there_may_be_nothing_to_support(answer: str) -> None:
    assert groundedness(answer, passages=[PASSAGE]) is None


@pytest.mark.parametrize(
    "text",
    [
        NONE,
        "the documents don't answer this question",
        "The passage does not mention when he died.",
        "I don't know.",
        "There is no information about that in the text.",
        "This is not stated in the passage.",
    ],
)
def test_that_the_passages_do_not_answer_is_neither_grounded_nor_not(text: str) -> None:
    assert score(text) == (None, "the answer says that the passages do not answer the question")


@pytest.mark.parametrize(
    "text",
    [
        "The documents do not say it, but it was in 1066.",
        "The text does not mention it. Bananas grow quickly on Mars.",
        "Documents",
    ],
)
def test_a_claim_beside_it_is_graded(text: str) -> None:
    value, _ = score(text)
    assert value is not None
    assert value < 0.6


def test_how_training_answers_say_so_is_learned_in_any_language() -> None:
    nein = "Das steht nicht in den Unterlagen."
    rows = [example(f"{PASSAGE}\nWann {n}?", nein, number=n) for n in range(3)]
    rows += [example(f"{PASSAGE}\nWho {n}?", "Rollo swore fealty", number=10 + n) for n in range(5)]
    grader = learn_groundedness(rows)
    assert grader.abstentions.sentences == {"das steht nicht in den unterlagen"}
    assert score(nein, grader=grader)[0] is None
    assert score("Rollo swore fealty", grader=grader)[0] == 1.0
    assert score(nein)[0] == 0.0
    assert learn_groundedness(rows[1:]).abstentions.sentences == frozenset()


class TestWhatIsInAPrompt:
    def test_the_context_of_a_system_message_is_the_passage(self) -> None:
        assert passages_of(example("When?", context=PASSAGE)) == ((PASSAGE,), "When?")

    @pytest.mark.parametrize("text", [f"{PASSAGE}\n\nWhen?", f"When?\n\n{PASSAGE}\n"])
    def test_the_question_stands_first_or_last(self, text: str) -> None:
        assert passages_of(example(text)) == ((PASSAGE,), "When?")

    def test_without_a_question_everything_is_passages(self) -> None:
        assert passages_of(example("Sum up:\nfirst\nsecond")) == (("Sum up:", "first", "second"), "")

    def test_a_question_alone_has_no_passages(self) -> None:
        assert score("911", user="When did Rollo swear fealty?") == (None, "there are no passages beside the question")


def test_passages_can_be_given() -> None:
    one = example("When did Rollo swear fealty?")
    usage = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)
    said = Answer(example_id="e0", text="911", finish_reason=FinishReason.STOP, usage=usage)
    given = Groundedness().score_against(one, said, passages=["before", PASSAGE], question=one.user_text)
    assert given.value == 1.0


def test_an_empty_answer_is_wrong_and_one_that_says_nothing_is_unscored() -> None:
    assert score("") == (0.0, None)
    assert score("It is.") == (None, "the answer says nothing that passages could support")
