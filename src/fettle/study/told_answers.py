"""Answers that sound as if there were none, and stand in the documents ("The handbook does not cover pets.").

And the other way round: sentences said again and again that no document says.

They are told by looking, once the documents of a study can be searched: in the documents that an example names or, where it names
none, in the passages that have the words of its question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fettle.examples.notes import info, warning
from fettle.records import Example, Finding, Split
from fettle.retrieval.question import question_of_example
from fettle.retrieval.records import Passage
from fettle.scoring.abstention import Abstentions, learn_abstentions, often_said, plain
from fettle.study.documents import StudyDocuments

TOLD_ANSWERS, REPEATED_ANSWER = "told-answers", "repeated-answer"
_SHARE_REPEATED = 0.02
"""Of the training answers, from which on it matters whether a sentence is meant to say that there is no answer."""
_NUM_REPEATS_SEARCHED = 5
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


def repeated_findings(train: Sequence[Example], documents: StudyDocuments) -> Iterator[Finding]:
    """A sentence that many training answers consist of and no document says: it may mean that there is no answer."""
    abstentions = learn_abstentions(train)
    others = [one for one in train if one.document_ids is None and not abstentions.is_abstention(one.answer)]
    counts = Counter(plain(example.answer) for example in others)
    often = often_said(counts)
    for text, count in counts.most_common():
        if count < _SHARE_REPEATED * len(train):
            return
        repeats = [one for one in others if plain(one.answer) == text] if text in often else []
        if repeats and not _is_said(repeats[:_NUM_REPEATS_SEARCHED], documents):
            yield warning(
                REPEATED_ANSWER,
                f"{count:,} of {len(train):,} training answers, this one first, are the same sentence, and no passage found for "
                f"them says it: {repeats[0].answer.strip()[:60]!r}; it counts as an answer like others",
                "if it means that the documents do not answer, give these rows an empty `doc_ids`: then saying so is right where "
                "it is true, and a model with passages learns it in these words",
            ).at(repeats[0].source)
            return


def _is_said(examples: Sequence[Example], documents: StudyDocuments) -> bool:
    found = _found(examples, documents)
    return any(
        _says(passage, one.answer) for one, passages in zip(examples, found, strict=True) for passage in passages
    )


def _found(examples: Sequence[Example], documents: StudyDocuments) -> list[tuple[Passage, ...]]:
    search = documents.retriever(method=documents.settings.search.method, num_passages=_NUM_LOOKED_AT, is_bounded=False)
    found = search.search_all([question_of_example(one) for one in examples])
    return [tuple(at.passage for at in some) for some in found]


def _marked(examples: Sequence[Example], abstentions: Abstentions, documents: StudyDocuments) -> tuple[Example, ...]:
    doubtful = [one for one in examples if one.document_ids != () and abstentions.is_abstention(one.answer)]
    unnamed = [one for one in doubtful if one.document_ids is None]
    passages = {one.id: _of_documents(one, documents) for one in doubtful if one.document_ids}
    if unnamed:
        passages |= {one.id: some for one, some in zip(unnamed, _found(unnamed, documents), strict=True)}
    told = {one.id for one in doubtful if any(_says(passage, one.answer) for passage in passages[one.id])}
    return tuple(replace(one, is_told=True) if one.id in told else one for one in examples)


def _of_documents(example: Example, documents: StudyDocuments) -> tuple[Passage, ...]:
    return tuple(one for id_ in example.document_ids or () for one in documents.lookup.of_document(id_))


def _says(passage: Passage, answer: str) -> bool:
    return f" {plain(answer)} " in f" {plain(passage.text)} "
