from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from fettle.errors import IntegrityError
from fettle.records import Answer, Example, FinishReason, Score, Task, TaskKind, Usage
from fettle.retrieval.fence import ABSTENTION
from fettle.retrieval.lookup import KeptLookup
from fettle.scoring.abstention import Abstentions, learn_abstentions, usual_abstention
from fettle.scoring.containment import holds, is_short
from fettle.scoring.grader import BatchGrader, score_answers
from fettle.scoring.graders.answer_or_abstention import AnswerOrAbstention
from fettle.scoring.graders.shown_passages import passage_graders
from fettle.scoring.graders.text import Chrf, ExactText, RougeL
from fettle.scoring.registry import default_graders, grader_by_name
from found_passages import ListedLookup, asked, passage

GERMAN = "Das steht nicht in den Unterlagen."
TEXT = Task(kind=TaskKind.TEXT, reason="")
BRIDGE = passage("bridge.md", "The bridge was opened in 1931 and is 504 metres long.", title="Bridge")
PAINT = passage("bridge.md", "It is painted red.", position=1, title="Bridge")
TOWER = passage("tower.md", "The tower was finished in 1890.", title="Tower")
LOOKUP = ListedLookup(BRIDGE, PAINT, TOWER)


def said(
    text: str, *, shown: Sequence[str] = (), cited: Sequence[str] = (), num_false: int = 0, id_: str = "e"
) -> Answer:
    return Answer(
        example_id=id_,
        text=text,
        finish_reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0),
        passages=tuple(shown),
        cited=tuple(cited),
        num_false_citations=num_false,
    )


def opened(answer: str = "1931", documents: Sequence[str] | None = ("bridge.md",)) -> Example:
    return asked("When was the bridge opened?", answer, id_="e", documents=documents)


# ------------------------------------------------------------------------------------------------ rightly no answer


@pytest.mark.parametrize(
    ("wanted", "documents", "text", "value"),
    [
        ("1931", ["bridge.md"], "1931", 1.0),
        ("1931", ["bridge.md"], "1932", 0.0),
        ("1931", ["bridge.md"], ABSTENTION, 0.0),
        ("1931", None, "The passages do not say.", 0.0),
        ("Towels are not provided.", ["towels.md"], ABSTENTION, 0.0),
        ("Towels are not provided.", ["towels.md"], "Towels are not provided.", 1.0),
        (ABSTENTION, ["bridge.md"], ABSTENTION, 1.0),  # SQuAD names the paragraph that does not answer
        (ABSTENTION, None, "The documents don't answer that.", 1.0),
        (ABSTENTION, None, "1931", 0.0),
        (ABSTENTION, None, "", 0.0),
        ("Please call us.", [], "Please call us", 1.0),
        ("Please call us.", [], ABSTENTION, 1.0),
        ("Please call us.", [], "In 1931.", 0.0),
        (GERMAN, None, GERMAN.upper(), 1.0),
    ],
)
def test_to_say_that_there_is_no_answer_is_right_where_it_is_true_and_only_there(
    wanted: str, documents: list[str] | None, text: str, value: float
) -> None:
    grader = AnswerOrAbstention(
        inner=ExactText(), abstentions=Abstentions(frozenset({"das steht nicht in den unterlagen"}))
    )
    assert grader.score(opened(wanted, documents), said(text)).value == value


class CountingGrader:
    """Grades all at once, and counts what it is given."""

    name, title, is_binary = "counting", "Counting", False

    def __init__(self) -> None:
        self.given: list[int] = []

    def score(self, example: Example, answer: Answer) -> Score:
        return self.score_all([(example, answer)])[0]

    def score_all(self, pairs: Sequence[tuple[Example, Answer]]) -> tuple[Score, ...]:
        self.given.append(len(pairs))
        return tuple(Score(example_id=example.id, value=0.25) for example, _ in pairs)


def test_a_grader_that_asks_a_model_is_asked_about_the_others_alone_and_at_once() -> None:
    inner = CountingGrader()
    grader = AnswerOrAbstention(inner=inner, abstentions=Abstentions())
    assert isinstance(grader, BatchGrader)
    examples = [
        replace(opened(wanted), id=str(number)) for number, wanted in enumerate(["1931", ABSTENTION, "1932", "1933"])
    ]
    answers = [said(text, id_=str(number)) for number, text in enumerate(["1", "2", ABSTENTION, "4"])]
    assert [score.value for score in score_answers(grader, examples, answers)] == [0.25, 0.0, 0.0, 0.25]
    assert inner.given == [2]
    score_answers(grader, examples[1:3], answers[1:3])
    assert inner.given == [2]


def test_a_failed_answer_is_unscored_also_where_none_is_wanted() -> None:
    failed = replace(said(""), finish_reason=FinishReason.ERROR, error="timed out")
    grader = AnswerOrAbstention(inner=Chrf(), abstentions=Abstentions())
    assert grader.score(opened(ABSTENTION), failed).value is None
    assert grader.title == "chrF, or rightly no answer"
    assert not grader.is_binary


def test_it_decides_where_answers_come_from_documents_and_some_say_that_there_is_none() -> None:
    train = [asked(f"q{number}", ABSTENTION if number < 3 else str(number)) for number in range(20)]
    names = [grader.name for grader in default_graders(TEXT, train, from_documents=True)]
    assert names[:4] == ["answer_or_abstention", "chrf", "rouge_l", "exact_text"]
    assert default_graders(TEXT, train)[0].name == "chrf"
    assert default_graders(TEXT, train[1:], from_documents=True)[0].name == "chrf"
    labels = Task(kind=TaskKind.LABELS, reason="", labels=("a", "b"))
    assert default_graders(labels, train, from_documents=True)[0].name == "exact_label"
    of_labels = grader_by_name("answer_or_abstention", labels, train)
    assert isinstance(of_labels, AnswerOrAbstention)
    assert of_labels.inner.name == "exact_label"


def test_sentences_of_other_languages_are_learned_where_no_document_answers() -> None:
    train = [asked(f"q{number}", GERMAN, documents=[]) for number in range(3)]
    train += [asked(f"a{number}", "Am Montag um neun", documents=["a.md"]) for number in range(3)]
    train += [asked(f"b{number}", "Am Montag um neun", documents=[]) for number in range(3)]  # an answer elsewhere
    train += [asked(f"c{number}", "nie", documents=[]) for number in range(3)]  # too short to be learned
    learned = learn_abstentions(train)
    assert learned.sentences == {"das steht nicht in den unterlagen"}
    assert learned.is_wanted(train[0])
    assert learned.is_wanted(train[-1])  # no document answers
    assert not learned.is_wanted(train[3])
    assert learn_abstentions(train[1:]).sentences == frozenset()


def test_the_usual_sentence_is_the_one_of_the_training_answers_word_for_word() -> None:
    own = "The documents do not say."
    train = [*(asked(f"q{number}", own) for number in range(3)), asked("x", ABSTENTION), asked("y", "1931")]
    assert usual_abstention(train, Abstentions(), otherwise=ABSTENTION) == own
    assert usual_abstention(train[1:], Abstentions(), otherwise=ABSTENTION) == ABSTENTION
    assert usual_abstention([], Abstentions(), otherwise=ABSTENTION) == ABSTENTION


# ------------------------------------------------------------------------------------------------ other right answers


def test_text_graders_take_the_best_of_several_right_answers() -> None:
    example = replace(opened("10th century"), references=("the first half of the 10th century", "10th"))
    assert ExactText().score(example, said("10th")).value == 1.0
    assert ExactText().score(example, said("11th")).value == 0.0
    for grader in (Chrf(), RougeL()):
        assert grader.score(example, said("10th")).value == 1.0
        assert grader.score(replace(example, references=()), said("10th")).value < 1.0  # pyright: ignore[reportOptionalOperand]


# ------------------------------------------------------------------------------------------------ what was shown


def scores(example: Example, answer: Answer) -> dict[str, float | None]:
    return {grader.name: grader.score(example, answer).value for grader in passage_graders(LOOKUP, Abstentions())}


def reasons(example: Example, answer: Answer) -> dict[str, str | None]:
    return {grader.name: grader.score(example, answer).reason for grader in passage_graders(LOOKUP, Abstentions())}


BOTH = ("tower.md#0", "bridge.md#0")


def test_a_right_answer_that_names_its_passage() -> None:
    assert scores(opened(), said("1931", shown=BOTH, cited=BOTH[1:])) == {
        "answer_in_context": 1.0,
        "groundedness_in_shown": 1.0,
        "citation_precision": 1.0,
        "citation_recall": 1.0,
        "citation_support": 1.0,
    }


def test_an_answer_of_another_document() -> None:
    assert scores(opened(), said("1890", shown=BOTH, cited=BOTH[:1])) == {
        "answer_in_context": 1.0,  # search did its part
        "groundedness_in_shown": 1.0,
        "citation_precision": 0.0,
        "citation_recall": 0.0,
        "citation_support": 1.0,
    }


def test_an_answer_that_search_did_not_find() -> None:
    assert scores(opened(), said("1931", shown=BOTH[:1])) == {
        "answer_in_context": 0.0,
        "groundedness_in_shown": 0.0,
        "citation_precision": None,
        "citation_recall": None,
        "citation_support": None,
    }


def test_each_passage_that_is_named_counts_and_false_numbers_too() -> None:
    # One of two passages and two false numbers is right: 1/4. All that it says is in the passages that it names.
    found = scores(opened(), said("1931", shown=BOTH, cited=BOTH, num_false=2))
    assert found["citation_precision"] == 0.25
    assert found["citation_recall"] == 1.0
    two = opened(documents=["bridge.md", "tower.md", "lost.md"])
    assert scores(two, said("1931", shown=BOTH, cited=BOTH[1:]))["citation_recall"] == 0.5  # of those that were shown
    assert scores(opened(), said("1931", shown=BOTH, cited=BOTH[:1]))["citation_support"] == 0.0


def test_a_copy_of_a_right_passage_is_of_a_right_document() -> None:
    copy = replace(BRIDGE, id="old/bridge.md#0", document_id="old/bridge.md")
    graders = passage_graders(ListedLookup(BRIDGE, PAINT, copy), Abstentions())
    answer = said("1931", shown=[copy.id, PAINT.id], cited=[copy.id])
    found = {grader.name: grader.score(opened(), answer).value for grader in graders}
    assert found["citation_precision"] == found["citation_recall"] == 1.0


def test_questions_without_an_answer_have_no_right_passage() -> None:
    found = reasons(opened(ABSTENTION), said("1931", shown=BOTH, cited=BOTH))
    assert (
        found["answer_in_context"]
        == found["citation_precision"]
        == found["citation_recall"]
        == "no document answers it"
    )
    assert found["groundedness_in_shown"] is None  # what it made up or not can be told
    assert scores(opened(), said(ABSTENTION, shown=BOTH))["groundedness_in_shown"] is None


def test_who_was_shown_nothing_is_unscored() -> None:
    assert set(reasons(opened(), said("1931")).values()) == {"it was shown no passages"}
    assert reasons(opened(documents=None), said("1931", shown=BOTH, cited=BOTH))["citation_precision"] == (
        "the example does not say which documents answer it"
    )
    long = "The bridge was opened to traffic in the spring of the year 1931."
    assert "too long" in (reasons(opened(long), said("1931", shown=BOTH))["answer_in_context"] or "")


def test_a_passage_that_is_no_longer_there_ends_the_grading() -> None:
    with pytest.raises(IntegrityError, match=r"bridge.md#7.*no longer in the index"):
        scores(opened(), said("1931", shown=("bridge.md#7",)))


def test_each_document_is_looked_up_once() -> None:
    lookup = ListedLookup(BRIDGE, PAINT, passage("a#b.md", "x"))
    kept = KeptLookup(lookup)
    for _ in range(2):
        assert kept.with_ids(["bridge.md#1", "bridge.md#0", "a#b.md#0"])[0] == PAINT
    assert lookup.asked == ["bridge.md", "a#b.md"]


@pytest.mark.parametrize(
    ("text", "answers", "is_held"),
    [
        ("Opened in 1931.", ["1931"], True),
        ("Opened in 19312.", ["1931"], False),
        ("In New York City", ["new york"], True),
        ("In Newer Yorkshire", ["new york"], False),
        ("It costs 1,931.50 pounds", ["1,931.50 pounds"], True),
        ("anything", [""], False),
        ("anything", ["?!"], False),
        (" ".join(map(str, range(11))), [" ".join(map(str, range(11)))], False),
        (" ".join(map(str, range(11))), ["x", " ".join(map(str, range(10)))], True),
    ],
)
def test_short_answers_are_looked_for_in_whole_words(text: str, answers: list[str], is_held: bool) -> None:
    assert holds(text, answers) == is_held
    assert any(map(is_short, answers)) or not is_held
