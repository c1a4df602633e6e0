"""What a study says of its documents: how well they are searched, and whether answers fail in searching or in answering.

All of it is of the test questions that say which documents answer them (`document_ids`), or whose wanted answer is that none does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.contenders.retrieval import PassageReader
from fettle.records import Example, Finding, Interval
from fettle.retrieval.lookup import KeptLookup, PassageLookup, PassageSet
from fettle.retrieval.measures import SearchMeasures, documents_of, measure
from fettle.retrieval.question import question_of_example
from fettle.retrieval.records import Found, Passage, SearchMethod
from fettle.retrieval_records import (
    LostScore,
    RecallAt,
    RetrievalReport,
    SearchQuality,
    Seen,
    SeenScores,
    ShownPassage,
)
from fettle.scoring.abstention import learn_abstentions
from fettle.scoring.grader import Grader, score_answers
from fettle.scoring.right_passages import answering_passages
from fettle.statistics.intervals import mean_interval
from fettle.study.document_findings import (
    ANSWER_IN_DOCUMENTS,
    OWN_NUMBERS,
    SYSTEM_SEARCHED,
    UNKNOWN_DOCUMENTS,
    is_known,
)
from fettle.study.told_answers import REPEATED_ANSWER

if TYPE_CHECKING:
    from fettle.retrieval.retriever import Retriever
    from fettle.study.documents import StudyDocuments
    from fettle.study.planning import StudyPlan
    from fettle.study.results import TestedRung

DEPTHS = (1, 3, 5, 10)
"""At which recall is told."""
_TOLD = (UNKNOWN_DOCUMENTS, ANSWER_IN_DOCUMENTS, OWN_NUMBERS, SYSTEM_SEARCHED, REPEATED_ANSWER)
_TITLES = {SearchMethod.VECTOR: "Vector", SearchMethod.FULL_TEXT: "Full text", SearchMethod.HYBRID: "Hybrid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Test questions of which it is known whether and where the documents answer them."""

    answered: tuple[Example, ...]
    """Those that documents answer; each says which."""
    absent: tuple[Example, ...]
    """Those that no document answers."""

    @property
    def number(self) -> int:
        """Of all of them."""
        return len(self.answered) + len(self.absent)


def retrieval_report(plan: StudyPlan, documents: StudyDocuments, tested: Sequence[TestedRung]) -> RetrievalReport:
    """The documents of a study, and how well they are searched and used."""
    abstentions, test = learn_abstentions(plan.split.train), plan.split.test
    absent = frozenset(one.id for one in test if abstentions.is_wanted(one))
    known = [one for one in test if one.id in absent or not one.document_ids or is_known(one, documents)]
    questions = known_questions(known, absent)
    readers = {arm.name: arm.rung.contender for arm in tested if isinstance(arm.rung.contender, PassageReader)}
    shown = [arm for arm in tested if arm.name in readers]
    passages = {
        passage.id: passage
        for arm in shown
        for answer in arm.answers
        for passage in documents.lookup.with_ids(answer.passages)
    }
    losses = [
        lost_score(
            arm,
            test,
            questions,
            plan.split.cluster_by_id,
            grader=plan.graders[0],
            lookup=documents.lookup,
        )
        for arm in shown
    ]
    made_of = documents.index.description
    return RetrievalReport(
        place=documents.settings.described,
        index_sha256=made_of.sha256,
        num_documents=made_of.num_documents,
        num_passages=made_of.num_passages,
        description=documents.retriever().describe(),
        num_shown=max(reader.style.num_passages for reader in readers.values()),
        num_searched=len(questions.answered),
        num_absent=len(questions.absent),
        qualities=_qualities(plan, documents, questions) if questions.answered else (),
        losses=tuple(losses) if questions.number else (),
        passages=shown_passages(shown, passages),
    )


def _qualities(plan: StudyPlan, documents: StudyDocuments, questions: Questions) -> tuple[SearchQuality, ...]:
    """Of every way of searching, the one that the contenders use last where it is none of the plain ones."""
    used, clusters = documents.settings.search, clusters_of(questions.answered, plan.split.cluster_by_id)
    ways: list[tuple[SearchMethod, str | None]] = [(method, None) for method in SearchMethod]
    if (used.method, used.reranker) not in ways:
        ways.append((used.method, used.reranker))
    return tuple(
        search_quality(
            documents.retriever(method=method, reranker=reranker, num_passages=DEPTHS[-1], is_bounded=False),
            questions.answered,
            clusters,
            method=_TITLES[method] + (f", reranked by {reranker}" if reranker else ""),
            is_used=(method, reranker) == (used.method, used.reranker),
            lookup=documents.lookup,
        )
        for method, reranker in ways
    )


def warnings_of_documents(findings: Sequence[Finding]) -> tuple[str, ...]:
    """What a reader must know of examples and documents before trusting the figures."""
    return tuple(f"{one.message}. {one.remedy[:1].upper()}{one.remedy[1:]}." for one in findings if one.code in _TOLD)


def clusters_of(questions: Sequence[Example], cluster_by_id: Mapping[str, int]) -> dict[str, int]:
    """Clusters of searches: questions that are near-duplicates or have a right document in common, which is found or missed alike.

    Args:
        questions: Each says which documents answer it.
        cluster_by_id: Of near-duplicates and groups, as in `records.Split`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    shared = [(place, ("cluster", cluster_by_id[one.id])) for place, one in enumerate(questions)]
    shared += [
        (place, ("document", document)) for place, one in enumerate(questions) for document in one.document_ids or ()
    ]
    node_of = {name: len(questions) + number for number, name in enumerate(dict.fromkeys(name for _, name in shared))}
    rows, columns = [place for place, _ in shared], [node_of[name] for _, name in shared]
    size = len(questions) + len(node_of)
    graph = coo_array(([1] * len(rows), (rows, columns)), shape=(size, size))
    _, components = connected_components(graph, directed=False)
    return {one.id: int(components[place]) for place, one in enumerate(questions)}


def known_questions(examples: Sequence[Example], absent_ids: frozenset[str]) -> Questions:
    """The examples of which it is known.

    Args:
        examples: Any.
        absent_ids: Those whose wanted answer is that the documents do not tell.
    """
    absent = tuple(e for e in examples if e.id in absent_ids or e.document_ids == ())
    left = {example.id for example in absent}
    return Questions(absent=absent, answered=tuple(e for e in examples if e.document_ids and e.id not in left))


def search_quality(
    retriever: Retriever,
    questions: Sequence[Example],
    clusters: Mapping[str, int],
    *,
    method: str,
    is_used: bool,
    lookup: PassageLookup,
) -> SearchQuality:
    """How well a search finds the documents of some questions.

    Args:
        retriever: Finds at least as many passages as the greatest of `DEPTHS`.
        questions: At least one; each says which documents answer it.
        clusters: Of each example, as in `records.Split`.
        method: The search as people read it.
        is_used: Whether the contenders search so.
        lookup: All passages: a copy of a right document's passage that is found in its place counts as that.
    """
    right = [PassageSet(passages_of(question, lookup)) for question in questions]
    found = retriever.search_all([question_of_example(question) for question in questions])
    measured = {depth: [_measured(*of, depth) for of in zip(found, questions, right, strict=True)] for depth in DEPTHS}
    groups = [clusters[question.id] for question in questions]
    deepest = measured[DEPTHS[-1]]
    return SearchQuality(
        method=method,
        is_used=is_used,
        recalls=tuple(
            RecallAt(depth=depth, recall=mean_interval([one.recall for one in some], groups))
            for depth, some in measured.items()
        ),
        reciprocal_rank=mean_interval([one.reciprocal_rank for one in deepest], groups),
        ndcg=mean_interval([one.ndcg for one in deepest], groups),
    )


def lost_score(
    tested: TestedRung,
    test: Sequence[Example],
    questions: Questions,
    clusters: Mapping[str, int],
    *,
    grader: Grader,
    lookup: PassageLookup,
) -> LostScore:
    """Where a contender that is shown passages loses: on questions whose answer it was not shown, or on the others.

    Args:
        tested: Its answers to the test split.
        test: The test split.
        questions: Of which it is known whether and where the documents answer them; at least one.
        clusters: Of each example.
        grader: The primary one.
        lookup: All passages.
    """
    kept = KeptLookup(lookup)
    scores = {score.example_id: score.value for score in score_answers(grader, test, tested.answers)}
    answers = {answer.example_id: answer for answer in tested.answers}
    by_seen: dict[Seen, list[Example]] = {seen: [] for seen in Seen}
    by_seen[Seen.ABSENT] = list(questions.absent)
    for example in questions.answered:
        right = PassageSet(right_passages(example, kept))
        is_shown = any(one in right for one in kept.with_ids(answers[example.id].passages))
        by_seen[Seen.SHOWN if is_shown else Seen.MISSED].append(example)
    num_scored = sum(scores[example.id] is not None for some in by_seen.values() for example in some)
    return LostScore(
        contender=tested.name,
        groups=tuple(_seen_scores(seen, some, scores, clusters, num_scored) for seen, some in by_seen.items()),
    )


def shown_passages(tested: Sequence[TestedRung], passages: Mapping[str, Passage]) -> tuple[ShownPassage, ...]:
    """All passages that stood in a prompt of the test split, in the order of their ids."""
    ids = sorted({id_ for arm in tested for answer in arm.answers for id_ in answer.passages})
    shown = (passages[id_] for id_ in ids)
    return tuple(ShownPassage(id=one.id, heading=one.heading, source=one.source, text=one.text) for one in shown)


def right_passages(example: Example, lookup: PassageLookup) -> tuple[Passage, ...]:
    """The passages of the right documents that hold the answer word for word, or the one that supports it best, as training has it;
    all of them, where none clearly does.
    """
    of_documents = passages_of(example, lookup)
    return answering_passages(example, of_documents) or of_documents


def passages_of(example: Example, lookup: PassageLookup) -> tuple[Passage, ...]:
    """All passages of the right documents."""
    return tuple(one for document in example.document_ids or () for one in lookup.of_document(document))


def _measured(found: Sequence[Found], question: Example, right: PassageSet, depth: int) -> SearchMeasures:
    assert question.document_ids, "asked of questions that documents answer"
    return measure(documents_of(found[:depth], right), question.document_ids, k=depth)


def _seen_scores(
    seen: Seen,
    examples: Sequence[Example],
    scores: Mapping[str, float | None],
    clusters: Mapping[str, int],
    num_scored: int,
) -> SeenScores:
    known = [(value, clusters[one.id]) for one in examples if (value := scores[one.id]) is not None]
    interval: Interval | None = None
    if known:
        interval = mean_interval([value for value, _ in known], [cluster for _, cluster in known])
    lost = sum(1 - value for value, _ in known) / num_scored if num_scored else 0.0
    return SeenScores(seen=seen, num_questions=len(examples), score=interval, lost=lost)
