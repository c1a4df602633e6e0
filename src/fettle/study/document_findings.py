"""What is noticed about examples and documents together, before anything is answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fettle.examples.duplicates import plain_words
from fettle.examples.notes import info, warning
from fettle.records import Example, Finding, Split
from fettle.retrieval.citations import read_citations
from fettle.retrieval.question import question_of_example
from fettle.retrieval.records import Passage, SearchMethod
from fettle.study.documents import StudyDocuments
from fettle.study.told_answers import repeated_findings

UNKNOWN_DOCUMENTS, ANSWER_IN_DOCUMENTS, OWN_NUMBERS = "unknown-documents", "answer-in-documents", "own-numbers"
SYSTEM_SEARCHED = "system-message-searched"
_NUM_LOOKED_AT = 3
"""Passages that fit a question best by its words: one that holds it word for word is among them."""
_FEWEST_WORDS = 12
"""Of a passage that is no more than a part of a long answer."""
_SHARE_NUMBERED = 0.05
"""Of training answers, from which on numbers in brackets are theirs."""


def document_findings(split: Split, documents: StudyDocuments) -> Iterator[Finding]:
    """What does not go together: ids that the index does not have, and test questions that stand in the documents with their
    answers; and that questions stand in system messages, which are searched for then.
    """
    yield from _in_system_messages((*split.train, *split.valid, *split.test))
    yield from _unknown((*split.train, *split.valid, *split.test), documents)
    yield from _told(split.test, documents)


def text_findings(train: Sequence[Example], documents: StudyDocuments) -> Iterator[Finding]:
    """What is noticed of training answers in free text."""
    yield from number_findings(train)
    yield from repeated_findings(train, documents)


def _in_system_messages(examples: Sequence[Example]) -> Iterator[Finding]:
    asking = [example for example in examples if example.context]
    if asking:
        text = (
            f"{len(asking):,} of {len(examples):,} examples, this one first, ask in their system message, and that is searched for "
            "beside what the user says; the server does so for the study's tuned model and its releases"
        )
        remedy = "attach an index to another model with `--system`: for one by hand, what the user says alone is searched for"
        yield info(SYSTEM_SEARCHED, text, remedy).at(asking[0].source)


def number_findings(train: Sequence[Example]) -> Iterator[Finding]:
    """Training answers that end with numbers in brackets, as other answers do that name their passages."""
    if has_own_numbers(train):
        numbered = _numbered(train)
        text = (
            f"{len(numbered):,} of {len(train):,} training answers, this one first, have numbers in brackets where answers name "
            "their passages; so answers are not asked to name passages, and keep their numbers"
        )
        remedy = "if the numbers are of passages that another search has found, take them out of the answers"
        yield warning(OWN_NUMBERS, text, remedy).at(numbered[0].source)


def has_own_numbers(train: Sequence[Example]) -> bool:
    """Whether numbers in brackets belong to the wanted answers themselves, which would be taken for those of passages."""
    return len(_numbered(train)) > _SHARE_NUMBERED * len(train)


def is_known(example: Example, documents: StudyDocuments) -> bool:
    """Whether the index has a document that answers an example."""
    return any(documents.lookup.of_document(one) for one in example.document_ids or ())


def _numbered(train: Sequence[Example]) -> list[Example]:
    return [example for example in train if read_citations(example.answer).numbers]


def _unknown(examples: Sequence[Example], documents: StudyDocuments) -> Iterator[Finding]:
    strange = [
        (example, missing)
        for example in examples
        if (missing := [one for one in example.document_ids or () if not documents.lookup.of_document(one)])
    ]
    if strange:
        first, missing = strange[0]
        text = (
            f"{len(strange):,} of {len(examples):,} examples, this one first, name documents that the index does not have: "
            f"{missing[0]!r}; how they are searched and whether they were shown cannot be told of those"
        )
        remedy = "give the ids that `fettle search` shows: a row's own id, or the path below the folder, such as `faq/returns.md`"
        yield warning(UNKNOWN_DOCUMENTS, text, remedy).at(first.source)


def _told(test: Sequence[Example], documents: StudyDocuments) -> Iterator[Finding]:
    """Documents may have been made of the examples: then retrieval looks up the answer, which it cannot do in production."""
    search = documents.retriever(method=SearchMethod.FULL_TEXT, num_passages=_NUM_LOOKED_AT, is_bounded=False)
    found = search.search_all([question_of_example(example) for example in test])
    told = [
        (example, one.passage)
        for example, some in zip(test, found, strict=True)
        for one in some
        if _holds(one.passage, example)
    ]
    if told:
        number = len({example.id for example, _ in told})
        example, passage = told[0]
        text = (
            f"{number:,} of {len(test):,} test questions, this one first, stand in the documents word for word, with their "
            f"answers: passage {passage.id}"
        )
        remedy = (
            "if documents were made of these examples, leave the examples out of them: the scores of contenders with passages "
            "say nothing of other questions then"
        )
        yield warning(ANSWER_IN_DOCUMENTS, text, remedy).at(example.source)


def _holds(passage: Passage, example: Example) -> bool:
    """Whether a passage has the question with its answer, or with a part of one that is longer than a passage."""
    held, text, question, answer = (
        f" {plain_words(one)} " for one in (passage.embedded_text, passage.text, example.user_text, example.answer)
    )
    if not question.strip() or not answer.strip() or question not in held:
        return False
    return answer in held or (len(text.split()) >= _FEWEST_WORDS and text.removeprefix(question[:-1]) in answer)
