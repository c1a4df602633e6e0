"""Whether the documents hold what the examples want answered; nothing is trained and no model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fettle.advice.measured import share
from fettle.advice_records import Measurement, Unit
from fettle.records import Example
from fettle.retrieval.lookup import PassageSet
from fettle.retrieval.question import question_of_example
from fettle.scoring.abstention import learn_abstentions
from fettle.scoring.containment import holds, is_short
from fettle.statistics.intervals import mean_interval, wilson
from fettle.study.document_findings import ANSWER_IN_DOCUMENTS
from fettle.study.documents import StudyDocuments
from fettle.study.planning import StudyPlan
from fettle.study.retrieval_report import passages_of

MOST_SEARCHED = 200
"""Questions that are searched for."""
_FEWEST = 10
"""Below this nothing is said of a share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLook:
    """What was found in the documents; None: it could not be told."""

    answers: Measurement | None = None
    """Share of short wanted answers that stand in the passages found."""
    found: Measurement | None = None
    """Share of questions of which a document that answers them is found."""
    absent: Measurement | None = None
    """Share of questions that want to hear that no document answers."""
    told: Measurement | None = None
    """Test questions that stand in the documents with their answers."""
    notes: tuple[str, ...] = ()


def look_into_documents(plan: StudyPlan, documents: StudyDocuments, known: Sequence[Example]) -> DocumentLook:
    """Search for the first training and validation questions, as a contender with passages would, without its reranker.

    Args:
        plan: Of the study.
        documents: Its documents.
        known: Training and validation examples; the test split is not searched for.
    """
    abstentions = learn_abstentions(known)
    wanting = [example for example in known if not abstentions.is_wanted(example)]
    num_absent = len(known) - len(wanting)
    some = wanting[:MOST_SEARCHED]
    number = documents.settings.search.num_passages
    search = documents.retriever(method=documents.settings.search.method)  # a reranker would take minutes
    found = search.search_all([question_of_example(example) for example in some]) if some else ()
    clusters = plan.split.cluster_by_id
    held, held_clusters, named, named_clusters = [], [], [], []
    for example, passages in zip(some, found, strict=True):
        wanted = [example.answer, *example.references]
        if any(map(is_short, wanted)):
            held.append(float(any(holds(one.passage.embedded_text, wanted) for one in passages)))
            held_clusters.append(clusters[example.id])
        if of_right := passages_of(example, documents.lookup):
            right = PassageSet(of_right)  # with its copies, as in the report of a study
            named.append(float(any(one.passage in right for one in passages)))
            named_clusters.append(clusters[example.id])
    how = f"in the first {number} passages, {search.describe()}; training and validation questions"
    answers = None
    if len(held) >= _FEWEST:
        title = "short wanted answers that stand in what is found"
        answers = share(
            "answers_in_documents",
            title,
            mean_interval(held, held_clusters),
            f"word for word, {len(held):,} questions, {how}",
        )
    recall = None
    if len(named) >= _FEWEST:
        title = "questions of which the right document is found"
        recall = share(
            "documents_found",
            title,
            mean_interval(named, named_clusters),
            f"{len(named):,} questions with doc_ids, {how}",
        )
    told = next((one for one in plan.findings if one.code == ANSWER_IN_DOCUMENTS), None)
    notes = []
    if answers is None and recall is None:
        notes.append(
            "Whether the documents hold the answers could not be told: the wanted answers are longer than ten words, and too few "
            "rows name their documents (doc_ids)."
        )
    return DocumentLook(
        answers=answers,
        found=recall,
        absent=share(
            "absent_in_documents",
            "questions that no document answers",
            wilson(num_absent, len(known)),
            f"{num_absent:,} of {len(known):,}, by doc_ids or by what the wanted answer says",
        )
        if num_absent
        else None,
        told=None
        if told is None
        else Measurement(
            name="told_in_documents",
            title="test questions in the documents",
            value=told.message,
            unit=Unit.WORDS,
            how="full-text search for every test question",
        ),
        notes=tuple(notes),
    )
