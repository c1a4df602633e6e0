"""Training examples for a model that will answer from passages: what search finds for them, distractors included.

Where the right passage is known, it is shown in most examples and left out of some, whose wanted answer then says that the
documents do not answer; so the model learns to use what is there, and to say when it is not. An answer ends with the number of its
passage. The prompts are made as they are when the model is asked.

Source: Zhang et al. 2024, "RAFT: Adapting Language Model to Domain Specific RAG" (arXiv 2403.10131). There, passages are drawn at
random beside the right one and the answer stays the same where that is left out; here they are those that search finds, in its
order, the answer becomes an abstention, since "not in the documents" is a right answer to us, and questions that no document
answers count among those without a right passage.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from fettle.contenders.retrieval import PassageReader
from fettle.errors import IntegrityError, require_range
from fettle.records import Example, Message
from fettle.retrieval.citations import with_citations
from fettle.retrieval.lookup import KeptLookup, PassageLookup, PassageSet
from fettle.retrieval.question import question_of_example
from fettle.retrieval.records import Found, Passage
from fettle.scoring.abstention import Abstentions
from fettle.scoring.containment import holds, is_short
from fettle.scoring.graders.groundedness import groundedness
from fettle.scoring.graders.text import right_answers

_SUPPORTING = 0.5
"""Groundedness of an answer in a passage of a right document from which on that passage is taken to answer."""
_CLEARLY_SUPPORTING = 0.8
"""The same of a passage of any document."""


class PassageCase(StrEnum):
    """What became of the right passage in the prompt of a training example."""

    KEPT = "the right passage is found, and shown"
    LEFT_OUT = "the right passage is found, and left out"
    PUT_IN = "the right passage is not found, and put in"
    NOT_FOUND = "the right passage is not found, and not shown"
    UNANSWERED = "no document answers it"
    UNKNOWN = "which passage answers is not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftSettings:
    """How training prompts differ from those that search alone would make."""

    unanswered_share: float = 0.2
    """Of the examples of which it is known whether their passages answer, those whose passages do not: as many right passages are
    left out as it takes, and none where there are enough without. The paper leaves out 1 - P = 0.2."""
    put_in_probability: float = 0.5
    """That a right passage which search has not found is shown, at a random place."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no share.

        Raises:
            ConfigError: It is not.
        """
        require_range("unanswered_share", self.unanswered_share, low=0, high=1)
        require_range("put_in_probability", self.put_in_probability, low=0, high=1)


AS_ASKED = RaftSettings(unanswered_share=0, put_in_probability=0)
"""Prompts as search makes them: for the validation examples, on which training is stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftExamples:
    """Examples with passages in their prompts."""

    examples: tuple[Example, ...]
    """One for each that was given, in order."""
    cases: tuple[PassageCase, ...]
    """Of each."""
    shown: tuple[tuple[str, ...], ...]
    """Ids of the passages of each, in order."""

    @property
    def counts(self) -> Mapping[PassageCase, int]:
        """How many examples there are of each case."""
        return Counter(self.cases)

    def describe(self) -> str:
        """The counts in words."""
        return "; ".join(f"{self.counts[case]}: {case}" for case in PassageCase if self.counts.get(case))


def raft_examples(
    examples: Sequence[Example],
    reader: PassageReader,
    *,
    lookup: PassageLookup,
    abstentions: Abstentions,
    settings: RaftSettings,
) -> RaftExamples:
    """The examples as they are learned: passages in the prompt, and an answer that names its passage or says that there is none.

    Where it is not known which passage answers, the wanted answer stays as it is. Answers before the last are no longer learned:
    they were given without passages. Each example is drawn for by its id.

    Args:
        examples: Of the training split, or the validation split with `AS_ASKED`.
        reader: The arm that will be asked, whoever answers there: it searches, and says what fits into a prompt.
        lookup: All passages of the index.
        abstentions: How answers say that there is none.
        settings: What is left out and put in.

    Raises:
        IntegrityError: A prompt or an answer was changed otherwise than said here.
    """
    reader.style.search.begin([question_of_example(example) for example in examples])
    kept = KeptLookup(lookup)
    looked_up = [_looked_up(example, reader, kept, abstentions) for example in examples]
    left_out = _left_out(looked_up, settings) if reader.style.wording.abstention is not None else frozenset()
    made = [_Maker(reader, settings, left_out, one).make() for one in looked_up]
    return RaftExamples(
        examples=tuple(example for example, _, _ in made),
        cases=tuple(case for _, case, _ in made),
        shown=tuple(shown for _, _, shown in made),
    )


@dataclass(frozen=True, slots=True)
class _LookedUp:
    """An example, and what is known of its passages."""

    example: Example
    is_unanswered: bool
    """No document answers it."""
    candidates: tuple[Passage, ...]
    """All that search finds."""
    right: tuple[Passage, ...]
    """Those that answer; none: it is not known."""
    right_ones: PassageSet
    """The same with their copies."""
    is_found: bool
    """One of these is among those that would be shown."""

    def is_put_in(self, settings: RaftSettings) -> bool:
        """Whether a right passage that was not found is shown."""
        return bool(self.right) and not self.is_found and self.random(settings).random() < settings.put_in_probability

    def random(self, settings: RaftSettings) -> np.random.Generator:
        """What is drawn for this example, the same every time."""
        digest = hashlib.sha256(self.example.id.encode()).digest()
        return np.random.default_rng([settings.seed, int.from_bytes(digest[:8])])

    def is_told_by(self, passage: Passage) -> bool:
        """Whether a passage holds the answer all the same, or, where that is long, clearly supports it."""
        if passage in self.right_ones or holds(passage.text, right_answers(self.example)):
            return True
        return not is_short(self.example.answer) and _support(self.example, passage) >= _CLEARLY_SUPPORTING


def _looked_up(example: Example, reader: PassageReader, lookup: KeptLookup, abstentions: Abstentions) -> _LookedUp:
    candidates = tuple(one.passage for one in reader.style.candidates(example))
    is_unanswered = abstentions.is_wanted(example)
    is_text = not example.messages[-1].tool_calls
    right = tuple(_right(example, candidates, lookup)) if is_text and not is_unanswered else ()
    right_ones = PassageSet(right)
    is_found = any(passage in right_ones for passage in candidates[: reader.style.num_passages])
    return _LookedUp(example, is_unanswered, candidates, right, right_ones, is_found)


def _left_out(looked_up: Sequence[_LookedUp], settings: RaftSettings) -> frozenset[str]:
    """Ids of the examples whose right passage is found and left out, so that of all that are known the wanted share has none."""
    found = [one for one in looked_up if one.is_found]
    num_missed = sum(bool(one.right) and not one.is_found and not one.is_put_in(settings) for one in looked_up)
    num_known = sum(one.is_unanswered or bool(one.right) for one in looked_up)
    num_without = sum(one.is_unanswered for one in looked_up) + num_missed
    drawn = sorted(found, key=lambda one: (one.random(settings).random(), one.example.id))
    return frozenset(
        one.example.id for one in drawn[: max(0, round(settings.unanswered_share * num_known) - num_without)]
    )


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes one example."""

    reader: PassageReader
    settings: RaftSettings
    left_out: frozenset[str]
    looked_up: _LookedUp

    def make(self) -> tuple[Example, PassageCase, tuple[str, ...]]:
        """The example, what became of its right passage, and the ids of the passages that it shows."""
        example, style = self.looked_up.example, self.reader.style
        case, wanted = self._arranged()
        search = style.search.showing(question_of_example(example), _found(wanted))
        fitted = replace(self.reader, model=replace(self.reader.model, style=replace(style, search=search)))
        shown = [one.passage for one in fitted.found(example)]
        case = self._with_less(case, shown)
        made = replace(example, messages=(*_unlearned(fitted.told(example)), self._answer(case, shown)))
        _require_as_said(example, made, style.wording.abstention)
        return made, case, tuple(passage.id for passage in shown)

    def _arranged(self) -> tuple[PassageCase, Sequence[Passage]]:
        """What is to become of the right passage, and the passages in their order."""
        known, num_shown = self.looked_up, self.reader.style.num_passages
        if not known.right:
            return PassageCase.UNANSWERED if known.is_unanswered else PassageCase.UNKNOWN, known.candidates
        if known.is_found:
            if known.example.id in self.left_out:
                return PassageCase.LEFT_OUT, self._distractors()
            return PassageCase.KEPT, known.candidates
        if known.is_put_in(self.settings):
            shown = self._distractors()[: num_shown - 1]
            random = known.random(self.settings)
            random.random()  # which has said that it is put in
            place = int(random.integers(len(shown) + 1))
            return PassageCase.PUT_IN, [*shown[:place], known.right[0], *shown[place:]]
        return PassageCase.NOT_FOUND, known.candidates

    def _with_less(self, case: PassageCase, shown: Sequence[Passage]) -> PassageCase:
        """The case, once a prompt that was too long has lost its last passages, and where others hold the answer by chance."""
        if case in (PassageCase.KEPT, PassageCase.PUT_IN) and not self._numbers(shown):
            case = PassageCase.NOT_FOUND
        if case is not PassageCase.NOT_FOUND:
            return case
        is_told = any(map(self.looked_up.is_told_by, shown))
        return PassageCase.UNKNOWN if is_told or self.reader.style.wording.abstention is None else case

    def _answer(self, case: PassageCase, shown: Sequence[Passage]) -> Message:
        wanted, wording = self.looked_up.example.messages[-1], self.reader.style.wording
        if case in (PassageCase.LEFT_OUT, PassageCase.NOT_FOUND) and wording.abstention is not None:
            return replace(wanted, content=wording.abstention)
        if case not in (PassageCase.KEPT, PassageCase.PUT_IN) or not wording.asks_for_citations:
            return wanted
        return replace(wanted, content=with_citations(wanted.content, self._numbers(shown)))

    def _numbers(self, shown: Sequence[Passage]) -> list[int]:
        """Of the right passages, as they are shown."""
        return [number for number, passage in enumerate(shown, start=1) if passage in self.looked_up.right_ones]

    def _distractors(self) -> list[Passage]:
        """The candidates without those of the right documents, and without those that hold the answer all the same."""
        documents = {passage.document_id for passage in self.looked_up.right}
        others = (one for one in self.looked_up.candidates if one.document_id not in documents)
        return [one for one in others if not self.looked_up.is_told_by(one)]


def _right(example: Example, candidates: Sequence[Passage], lookup: KeptLookup) -> Sequence[Passage]:
    """The passages that answer, where that is clear."""
    if example.document_ids:
        of_documents = [one for document in example.document_ids for one in lookup.of_document(document)]
        return _answering(example, of_documents) or of_documents
    if is_short(example.answer):
        clear = [passage for passage in candidates if holds(passage.text, right_answers(example))]
    else:
        clear = [one for one in candidates if _support(example, one) >= _CLEARLY_SUPPORTING]
    return clear if len(clear) == 1 else ()


def _answering(example: Example, passages: Sequence[Passage]) -> list[Passage]:
    """Of the passages of the right documents those that hold the answer, or else the one that supports it best; none: not clear."""
    if holding := [passage for passage in passages if holds(passage.text, right_answers(example))]:
        return holding
    supports = [(_support(example, passage), -place) for place, passage in enumerate(passages)]
    best, place = max(supports, default=(0.0, 0))
    return [passages[-place]] if best >= _SUPPORTING else []


def _support(example: Example, passage: Passage) -> float:
    found = groundedness(example.answer, passages=[passage.embedded_text], question=example.user_text)
    return 0.0 if found is None else found


def _found(passages: Sequence[Passage]) -> tuple[Found, ...]:
    return tuple(Found(passage=one, rank=rank, score=-float(rank)) for rank, one in enumerate(passages, start=1))


def _unlearned(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(replace(one, weight=0) if one.role == "assistant" else one for one in messages)


def _require_as_said(example: Example, made: Example, abstention: str | None) -> None:
    is_same = made.answer.startswith(example.answer.rstrip()) or made.answer == abstention
    asked = [message.content for message in example.prompt if message.role == "user"]
    told = [message.content for message in made.prompt if message.role == "user"]
    if not is_same or (asked and not told[-1].endswith(asked[-1])):
        raise IntegrityError(
            f"passages have changed the question or the answer of example {example.id}", where=str(example.source)
        )
