"""Graders of answers that were given with passages in the prompt: what was shown, what is supported, what is named.

They see the passages through a lookup, by the ids that an answer carries. None of them says whether an answer is right.
"""

from __future__ import annotations

from dataclasses import dataclass

from fettle.records import Answer, Example, Score
from fettle.retrieval.lookup import KeptLookup, PassageLookup, PassageSet
from fettle.scoring.abstention import Abstentions
from fettle.scoring.containment import holds, is_short
from fettle.scoring.grader import Grader, scored, unscorable, unscored
from fettle.scoring.graders.groundedness import Groundedness
from fettle.scoring.graders.text import right_answers


def passage_graders(lookup: PassageLookup, abstentions: Abstentions) -> tuple[Grader, ...]:
    """All graders of this file, on the passages of one index."""
    kept = KeptLookup(lookup)
    return (
        AnswerInContext(lookup=kept, abstentions=abstentions),
        ShownGroundedness(lookup=kept, abstentions=abstentions),
        CitationPrecision(lookup=kept, abstentions=abstentions),
        CitationRecall(lookup=kept, abstentions=abstentions),
        CitationSupport(lookup=kept, abstentions=abstentions),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerInContext:
    """1 where a shown passage holds the wanted answer word for word: what search found, whatever was made of it.

    A short answer ("10") may stand in a passage that does not answer, so this is an upper bound.
    """

    lookup: KeptLookup
    abstentions: Abstentions
    name: str = "answer_in_context"
    title: str = "Answer in the passages shown"
    is_binary: bool = True

    def score(self, example: Example, answer: Answer) -> Score:
        """1 or 0; unscored for wanted answers that are too long to stand in a passage, or say that there is none."""
        if (result := _not_shown(example, answer)) is not None:
            return result
        if self.abstentions.is_wanted(example):
            return unscored(example, "no document answers it")
        answers = [text for text in right_answers(example) if is_short(text)]
        if not answers:
            return unscored(example, "the wanted answer is too long to be looked for word by word")
        return scored(example, any(holds(one.text, answers) for one in self.lookup.with_ids(answer.passages)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownGroundedness:
    """How much of an answer the passages in its prompt support; see `groundedness`."""

    lookup: KeptLookup
    abstentions: Abstentions
    name: str = "groundedness_in_shown"
    title: str = "Groundedness in the passages shown"
    is_binary: bool = False

    def score(self, example: Example, answer: Answer) -> Score:
        """In [0, 1]; unscored for an answer that says that there is none."""
        if (result := _not_shown(example, answer)) is not None:
            return result
        return _grounded(self.lookup, self.abstentions, example, answer, answer.passages)


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationPrecision:
    """Of the passages that an answer names, the share that is of a document which answers the question.

    Source: Gao et al. 2023, "Enabling Large Language Models to Generate Text with Citations"; with the documents that people have
    named in place of a model that judges entailment.
    """

    lookup: KeptLookup
    abstentions: Abstentions
    name: str = "citation_precision"
    title: str = "Citations: of a right document"
    is_binary: bool = False

    def score(self, example: Example, answer: Answer) -> Score:
        """In [0, 1]; a number that no passage has counts as a wrong one; unscored where none is named."""
        if (result := _not_citable(example, answer, self.abstentions)) is not None:
            return result
        num_named = len(answer.cited) + answer.num_false_citations
        if not num_named:
            return unscored(example, "the answer names no passage")
        right = set(example.document_ids or ())
        cited = _documents(self.lookup, example, answer.cited)
        return scored(example, sum(document in right for document in cited) / num_named)


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationRecall:
    """Of the right documents that were shown, the share that an answer names."""

    lookup: KeptLookup
    abstentions: Abstentions
    name: str = "citation_recall"
    title: str = "Citations: right documents named"
    is_binary: bool = False

    def score(self, example: Example, answer: Answer) -> Score:
        """In [0, 1]; unscored where no right document was shown."""
        if (result := _not_citable(example, answer, self.abstentions)) is not None:
            return result
        right = set(example.document_ids or ())
        shown = right.intersection(_documents(self.lookup, example, answer.passages))
        if not shown:
            return unscored(example, "no document that answers it was shown")
        cited = _documents(self.lookup, example, answer.cited)
        return scored(example, len(shown.intersection(cited)) / len(shown))


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationSupport:
    """How much of an answer the passages that it names support, those alone."""

    lookup: KeptLookup
    abstentions: Abstentions
    name: str = "citation_support"
    title: str = "Groundedness in the passages named"
    is_binary: bool = False

    def score(self, example: Example, answer: Answer) -> Score:
        """In [0, 1]; unscored where none is named, or the answer says that there is none."""
        if (result := _not_shown(example, answer)) is not None:
            return result
        if not answer.cited:
            return unscored(example, "the answer names no passage")
        return _grounded(self.lookup, self.abstentions, example, answer, answer.cited)


def _not_shown(example: Example, answer: Answer) -> Score | None:
    if (result := unscorable(example, answer)) is not None:
        return result
    return None if answer.passages else unscored(example, "it was shown no passages")


def _not_citable(example: Example, answer: Answer, abstentions: Abstentions) -> Score | None:
    if (result := _not_shown(example, answer)) is not None:
        return result
    if abstentions.is_wanted(example):
        return unscored(example, "no document answers it")
    return None if example.document_ids else unscored(example, "the example does not say which documents answer it")


def _documents(lookup: KeptLookup, example: Example, passage_ids: tuple[str, ...]) -> tuple[str, ...]:
    """The document of each passage; a right one where it has a copy of the passage, since search shows one of several."""
    right = PassageSet(one for id_ in example.document_ids or () for one in lookup.of_document(id_))
    return tuple(right.documents_with(one)[0] for one in lookup.with_ids(passage_ids))


def _grounded(
    lookup: KeptLookup, abstentions: Abstentions, example: Example, answer: Answer, passage_ids: tuple[str, ...]
) -> Score:
    texts = [passage.embedded_text for passage in lookup.with_ids(passage_ids)]
    grader = Groundedness(abstentions=abstentions)
    return grader.score_against(example, answer, passages=texts, question=example.user_text)
