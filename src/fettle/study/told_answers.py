"""Answers such as "The handbook does not cover pets." that sound as if there were none, and stand in the documents.

They are told by looking, once the documents of a study can be searched: in the documents that an example names or, where it names
none, in the passages that have the words of its question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fettle.examples.notes import info
from fettle.records import Example, Finding, Split
from fettle.retrieval.question import question_of_example
from fettle.retrieval.records import Passage
from fettle.scoring.abstention import Abstentions, learn_abstentions, plain
from fettle.study.documents import StudyDocuments

TOLD_ANSWERS = "told-answers"
_NUM_LOOKED_AT = 5
"""Passages that search finds, before they are reranked."""


def with_told_answers(split: Split, documents: StudyDocuments) -> Split:
    """The split, with `is_told` where an answer that sounds as if there were none stands in the documents."""
    abstentions = learn_abstentions(split.train)
    train, valid, test = (_marked(part, abstentions, documents) for part in (split.train, split.valid, split.test))
    return replace(split, train=train, valid=valid, test=test)


def told_findings(split: Split) -> tuple[Finding, ...]:
    """How many there are, at the first of them."""
    everything = (*split.train, *split.valid, *split.test)
    told = [example for example in everything if example.is_told]
    if not told:
        return ()
    text = (
        f"{len(told):,} of {len(everything):,} answers, this one first, sound as if there were none and stand in the documents: "
        f"{told[0].answer.strip()[:60]!r}; they count as answers"
    )
    return (
        info(TOLD_ANSWERS, text, "give such examples an empty `doc_ids` if no document answers them").at(
            told[0].source
        ),
    )


def _marked(examples: Sequence[Example], abstentions: Abstentions, documents: StudyDocuments) -> tuple[Example, ...]:
    doubtful = [one for one in examples if one.document_ids != () and abstentions.is_abstention(one.answer)]
    unnamed = [one for one in doubtful if one.document_ids is None]
    passages = {one.id: _of_documents(one, documents) for one in doubtful if one.document_ids}
    if unnamed:
        search = documents.retriever(
            method=documents.settings.search.method, num_passages=_NUM_LOOKED_AT, is_bounded=False
        )
        found = search.search_all([question_of_example(one) for one in unnamed])
        passages |= {one.id: tuple(at.passage for at in some) for one, some in zip(unnamed, found, strict=True)}
    told = {one.id for one in doubtful if any(_says(passage, one.answer) for passage in passages[one.id])}
    return tuple(replace(one, is_told=True) if one.id in told else one for one in examples)


def _of_documents(example: Example, documents: StudyDocuments) -> tuple[Passage, ...]:
    return tuple(one for id_ in example.document_ids or () for one in documents.lookup.of_document(id_))


def _says(passage: Passage, answer: str) -> bool:
    return f" {plain(answer)} " in f" {plain(passage.text)} "
