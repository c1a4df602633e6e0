"""What a study says of searching and answering, by hand on a handful of questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from fettle.contenders.contender import Contender
from fettle.records import Answer, Example, FinishReason, Location, Message, Usage
from fettle.retrieval.records import Found, Passage
from fettle.retrieval_records import Seen
from fettle.scoring.abstention import Abstentions
from fettle.scoring.graders.answer_or_abstention import AnswerOrAbstention
from fettle.scoring.graders.text import ExactText
from fettle.study.ladder import Rung
from fettle.study.results import TestedRung
from fettle.study.retrieval_report import (
    clusters_of,
    known_questions,
    lost_score,
    right_passages,
    search_quality,
    shown_passages,
)
from fettle.study.retrieval_views import loss_sentence

ABSTENTION = "The documents do not answer this question."


def question(number: int, answer: str, documents: tuple[str, ...] | None) -> Example:
    turns = (Message(role="user", content=f"q{number}"), Message(role="assistant", content=answer))
    source = Location(file="q.jsonl", line=number)
    return Example(id=f"q{number}", messages=turns, source=source, document_ids=documents)


def passage(document: str, position: int = 0) -> Passage:
    return Passage(
        id=f"{document}#{position}",
        document_id=document,
        source=f"{document}.md",
        title=document,
        title_path=(),
        position=position,
        page=None,
        text=f"About {document}.",
        num_tokens=3,
    )


class Searching:
    """Finds the same documents for everything, in the order of their names."""

    def __init__(self, documents: str) -> None:
        self.documents = documents

    def search(self, question: str, *, where: object = None) -> tuple[Found, ...]:
        return tuple(Found(passage=passage(d), rank=n, score=1 / n) for n, d in enumerate(self.documents, start=1))

    def search_all(self, questions: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        return tuple(map(self.search, questions))

    def describe(self) -> str:
        return self.documents

    def identity(self) -> str:
        return self.documents


class Documents:
    """Each document is one passage, but for z, whose second one holds the answer."""

    def of_document(self, document_id: str) -> tuple[Passage, ...]:
        if document_id != "z":
            return (passage(document_id),)
        return passage("z"), replace(passage("z", 1), text="They are green.")


QUESTIONS = [
    question(1, "red", ("a",)),
    question(2, "blue", ("d",)),
    question(3, ABSTENTION, ("a",)),  # written against a document, which does not answer
    question(4, "green", ("z",)),
    question(5, "grey", None),
    question(6, "none", ()),
]


def test_what_the_documents_answer_is_told_apart_from_what_they_do_not() -> None:
    known = known_questions(QUESTIONS, frozenset({"q3"}))
    assert [one.id for one in known.answered] == ["q1", "q2", "q4"]
    assert [one.id for one in known.absent] == ["q3", "q6"]
    assert known.number == 5


def test_recall_is_that_of_the_first_passages() -> None:
    known = known_questions(QUESTIONS, frozenset({"q3"}))
    clusters = {one.id: number for number, one in enumerate(QUESTIONS)}
    quality = search_quality(
        Searching("abcdefghijk"), known.answered, clusters, method="Vector", is_used=True, lookup=Documents()
    )
    recalls = {at.depth: at.recall.estimate for at in quality.recalls}
    # a is the first, d the fourth, z is nowhere: of three questions one, one, two and two
    assert recalls == pytest.approx({1: 1 / 3, 3: 1 / 3, 5: 2 / 3, 10: 2 / 3})
    assert quality.reciprocal_rank.estimate == pytest.approx((1 + 1 / 4) / 3)
    assert quality.is_used


class Copied(Documents):
    """Documents of which d and e say the same."""

    def of_document(self, document_id: str) -> tuple[Passage, ...]:
        return tuple(copied(one) for one in super().of_document(document_id))


def copied(one: Passage) -> Passage:
    return replace(one, title="D", text="About d.") if one.document_id in ("d", "e") else one


class SearchingCopies(Searching):
    """Shows one of several passages that say the same, as searches do."""

    def search(self, question: str, *, where: object = None) -> tuple[Found, ...]:
        return tuple(replace(one, passage=copied(one.passage)) for one in super().search(question))


def test_a_copy_of_the_right_passage_counts_as_found_and_shown() -> None:
    example = QUESTIONS[1]  # d answers it, and e is found
    clusters = {example.id: 0}
    quality = search_quality(
        SearchingCopies("aeb"), [example], clusters, method="Vector", is_used=True, lookup=Copied()
    )
    assert [at.recall.estimate for at in quality.recalls] == [0, 1, 1, 1]
    assert quality.reciprocal_rank.estimate == 1 / 2
    arm = arm_of([answered(example, "blue", "ae")], Reading())  # pyright: ignore[reportArgumentType]
    known = known_questions([example], frozenset())
    lost = lost_score(arm, [example], known, clusters, grader=ExactText(), lookup=Copied())
    assert [group.num_questions for group in lost.groups if group.seen is Seen.SHOWN] == [1]


def answered(example: Example, text: str, documents: str) -> Answer:
    ids = tuple(passage(document).id for document in documents)
    usage = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.1)
    return Answer(example_id=example.id, text=text, finish_reason=FinishReason.STOP, usage=usage, passages=ids)


class Reading:
    """A contender of which nothing but its name is asked."""

    name = title = "retrieval"


def arm_of(answers: Sequence[Answer], contender: Contender) -> TestedRung:
    rung = Rung(contender=contender, reading=None, validation_score=None)
    return TestedRung(rung=rung, answers=tuple(answers), latencies=())


def test_what_is_lost_is_lost_in_searching_or_in_answering() -> None:
    known = known_questions(QUESTIONS, frozenset({"q3"}))
    texts = ["red", "black", "I think red", "green", "grey", ABSTENTION]
    shown = ["ab", "ab", "ab", "bz", "ab", "ab"]
    answers = [answered(*one) for one in zip(QUESTIONS, texts, shown, strict=True)]
    answers[3] = replace(answers[3], passages=("b#0", "z#1"))
    arm = arm_of(answers, Reading())  # pyright: ignore[reportArgumentType] (a part of one is enough)
    passages = {one.id: one for one in (passage("a"), passage("b"), passage("z", 1))}
    lost = lost_score(
        arm,
        QUESTIONS,
        known,
        {one.id: number for number, one in enumerate(QUESTIONS)},
        grader=AnswerOrAbstention(inner=ExactText(), abstentions=Abstentions()),
        lookup=Documents(),
    )
    groups = {group.seen: group for group in lost.groups}
    assert {seen: group.num_questions for seen, group in groups.items()} == {
        Seen.SHOWN: 2,  # q1, q4
        Seen.MISSED: 1,  # q2: d was not shown
        Seen.ABSENT: 2,  # q3, q6
    }
    # of five questions q2 is lost in searching, q3 in answering, and q5 is not among them
    assert lost.lost_in_search == pytest.approx(1 / 5)
    assert lost.lost_in_answering == pytest.approx(1 / 5)
    assert groups[Seen.SHOWN].score is not None
    assert groups[Seen.SHOWN].score.estimate == 1
    sentence = loss_sentence(lost, "Retrieval").replace("\u00a0", " ")
    assert sentence.startswith(
        "On 5 test questions, Retrieval lacks 40.0 points to a perfect score: 20.0 in searching, 0.0 in answering what"
    )
    assert [one.id for one in shown_passages([arm], passages)] == ["a#0", "b#0", "z#1"]


def test_where_no_question_names_its_documents_nothing_is_lost_in_searching_or_answering() -> None:
    """All that is known is how questions without an answer went: a few of many, so there is no distance to a perfect score."""
    known = known_questions([replace(one, document_ids=None) for one in QUESTIONS], frozenset({"q3", "q6"}))
    arm = arm_of([answered(one, ABSTENTION, "a") for one in QUESTIONS], Reading())  # pyright: ignore[reportArgumentType]
    grader = AnswerOrAbstention(inner=ExactText(), abstentions=Abstentions())
    clusters = {one.id: number for number, one in enumerate(QUESTIONS)}
    lost = lost_score(arm, QUESTIONS, known, clusters, grader=grader, lookup=Documents())
    sentence = loss_sentence(lost, "Retrieval").replace("\u00a0", " ")
    assert sentence.startswith("Retrieval scores 100.0 % on 2 test questions that the documents do not answer. Where")
    assert "perfect" not in sentence


def test_another_passage_of_the_right_document_is_not_the_answer() -> None:
    example = QUESTIONS[3]
    assert [one.id for one in right_passages(example, Documents())] == ["z#1"]
    assert [one.id for one in right_passages(QUESTIONS[0], Documents())] == ["a#0"]  # nothing holds it word for word


def test_searches_for_one_document_are_one_cluster() -> None:
    several = [
        question(1, "x", ("a",)),
        question(2, "x", ("a", "b")),
        question(3, "x", ("b",)),
        question(4, "x", ("c",)),
    ]
    clusters = clusters_of([*several, question(5, "x", ("d",))], {"q1": 1, "q2": 2, "q3": 3, "q4": 4, "q5": 4})
    assert clusters["q1"] == clusters["q2"] == clusters["q3"] != clusters["q4"] == clusters["q5"]


def test_answers_that_failed_are_no_loss() -> None:
    [example] = QUESTIONS[:1]
    failed = replace(answered(example, "", ""), finish_reason=FinishReason.ERROR, error="no reply")
    arm = arm_of([failed], Reading())  # pyright: ignore[reportArgumentType] (a part of one is enough)
    known = known_questions([example], frozenset())
    lost = lost_score(arm, [example], known, {example.id: 0}, grader=ExactText(), lookup=Documents())
    assert lost.lost_in_search == lost.lost_in_answering == 0
    assert all(group.score is None for group in lost.groups)
