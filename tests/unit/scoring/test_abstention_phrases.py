from __future__ import annotations

import pytest

from fettle.records import Task, TaskKind
from fettle.retrieval.fence import ABSTENTION
from fettle.scoring.abstention import Abstentions, learn_abstentions, usual_abstention
from fettle.scoring.registry import default_graders
from found_passages import asked

TEXT = Task(kind=TaskKind.TEXT, reason="")
ORDINARY = (
    "Towels are not provided.",
    "Breakfast is not provided.",
    "We do not know your PIN.",
    "Your documents cannot be returned by post.",
    "No answer is needed.",
)


@pytest.mark.parametrize(
    "text",
    [
        ABSTENTION,
        "The documents don't answer that",
        "the documents doesn’t answer this question",
        "None of the passages answers this question.",
        "No document answers this.",
        "The handbook doesn't say.",
        "The employee handbook does not cover this.",
        "The manual never mentions it.",
        "Sorry, the manual does not tell.",
        "The provided context does not contain the answer.",
        "The context does not contain enough information to answer the question.",
        "The passages that were shown do not explicitly state who won.",
        "The information given does not specify a date.",
        "The article says nothing about it.",
        "The text is silent on this.",
        "Nothing in the documents answers this.",
        "The passage does not mention when he died.",
        "There is no information about that in the text.",
        "There is no answer to this question in the documents.",
        "There's no mention of it.",
        "This is not stated in the passage.",
        "How long a refund takes is not stated in the documents.",
        "That isn't specified.",
        "The answer is not in the documents.",
        "The answer is not given.",
        "This information is not available.",
        "Not in the documents!",
        "Not mentioned.",
        "Not enough information.",
        "The question cannot be answered from the passages.",
        "This question can't be answered.",
        "It cannot be determined from the text.",
        "I cannot answer this question from these documents.",
        "I'm sorry, but I can't answer that.",
        "This question is unanswerable.",
        "Unanswerable",
        "I don't know.",
        "We do not know the answer.",
        "I can't find that",
        "I could not find any information about parking in the documents.",
        "I do not have enough information to answer that.",
        "N/A",
        "n.a.",
        "No answer.",
    ],
)
def test_what_says_that_there_is_no_answer(text: str) -> None:
    assert Abstentions().is_abstention(text)


@pytest.mark.parametrize(
    "text",
    [
        *ORDINARY,
        "",
        "Documents",
        "Do not know your limits: test them.",
        "I do not know of a cheaper plan.",
        "No information desk is open on Sundays.",
        "There is no information desk.",
        "We have no information office in Leeds.",
        "Information cannot be given by telephone.",
        "Information is never given to third parties.",
        "The documents do not have to be translated.",
        "The documents do not give you the right to work.",
        "The documents cannot be used twice.",
        "Your policy does not cover water damage.",
        "The insurance does not cover this.",
        "Your passport is not in the documents we received.",
        "That is not provided.",
        "Meals are not given out after nine.",
        "The number is not known to our staff.",
        "Prices are not stated per person.",
        "Questions about tax cannot be answered by telephone.",
        "Support staff cannot answer questions about tax.",
        "I cannot find my card is what to tell the bank.",
        "There is no answer machine.",
        "There is no answer fee.",
        "NA is sodium.",
        "No.",
        "None.",
        "The documents do not say it, but it is red.",
        "The documents do not say it. It is red.",
        "The documents do not say that it was in 1066.",
    ],
)
def test_ordinary_answers_with_a_not_in_them_are_answers(text: str) -> None:
    assert not Abstentions().is_abstention(text)


@pytest.mark.parametrize("answer", ORDINARY)
def test_an_ordinary_answer_that_is_often_given_is_neither_instruction_nor_grader(answer: str) -> None:
    train = [asked(f"q{number}", answer, documents=["faq.md"]) for number in range(5)]
    train += [asked(f"r{number}", str(number), documents=["faq.md"]) for number in range(5)]
    assert usual_abstention(train, learn_abstentions(train), otherwise=ABSTENTION) == ABSTENTION
    assert "answer_or_abstention" not in [grader.name for grader in default_graders(TEXT, train, from_documents=True)]


def test_what_no_document_answers_stays_so_where_rows_name_the_document_it_was_asked_of() -> None:
    train = [asked(f"q{number}", ABSTENTION, documents=["bridge.md"]) for number in range(3)]
    assert default_graders(TEXT, train, from_documents=True)[0].name == "answer_or_abstention"
