"""The groundedness grader: how much of an answer its passages support, told without a model.

It says nothing about whether the answer is right, or answers the question: an answer copied from the wrong place is grounded. It
knows words, numbers and names, not meaning: what is said in other words counts as unsupported, and "not" changes nothing. Scripts
without spaces between words (Chinese, Thai) need another grader.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fettle.records import Answer, Example, Score
from fettle.scoring.abstention import SENTENCE_END, WORD, Abstentions, often_said, plain, unsupported
from fettle.scoring.grader import scored, unscorable, unscored

_ENDINGS = ("edly", "ing", "ed", "es", "ly", "s", "e")
_SHORTEST_STEM = 3
_EVERYDAY = frozenset(
    re.findall(
        r"\w+",
        """a about after all also an and any are as at be been before being between both but by can could did do does during each
        for from had has have he her here his how i if in into is it its just may me might more most my no not of off on only or
        other our out over shall she should so some such than that the their them then there these they this those to under up us
        very was we were what when where which while who whom whose why will with would you your""",
    )
)
"""English words that say nothing by themselves. Those of other languages are mostly found in the passages anyway."""

_LOW = 0.5


def groundedness(answer: str, *, passages: Sequence[str], question: str = "") -> float | None:
    """How much of `answer` the passages support, in [0, 1]; None where it says nothing that they could support.

    The mean over its sentences of: the share of its words that the passages have (endings and everyday words apart), times the
    share of its numbers and names that they have. Words of the question that they lack count neither way.

    >>> passages = ["The bridge was opened in 1931 and is 504 metres long."]
    >>> groundedness("It opened in 1931.", passages=passages), groundedness("It opened in 1932.", passages=passages)
    (1.0, 0.0)
    >>> groundedness("The Ohio bridge is 504 metres long.", passages=passages, question="How long is the Ohio bridge?")
    1.0

    Source: the precision of Knowledge F1 (Shuster et al. 2021, "Retrieval Augmentation Reduces Hallucination in Conversation"),
    times the precision of entities against the source (Nan et al. 2021, "Entity-level Factual Consistency of Abstractive Text
    Summarization"), with numbers and capitalised words for entities. How it was chosen: `docs/design/011-graders.md`.
    """
    known = {_stem(token) for passage in passages for token in WORD.findall(passage)}
    neutral = {_stem(token) for token in WORD.findall(question)} - known
    supports: list[float] = []
    for sentence in SENTENCE_END.split(answer):
        told = [one for one in _informative(sentence) if one.stem not in neutral]
        if not told:
            continue
        hard = [one for one in told if one.is_number_or_name]
        share = sum(one.stem in known for one in told) / len(told)
        hard_share = sum(one.stem in known for one in hard) / len(hard) if hard else 1.0
        supports.append(share * hard_share)
    return sum(supports) / len(supports) if supports else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Groundedness:
    """The groundedness of answers in the passages that their prompts hold; see `groundedness`.

    An answer that says that the passages do not answer the question is neither grounded nor ungrounded: unscored.

    Args:
        abstentions: How answers say so.
    """

    abstentions: Abstentions = field(default_factory=Abstentions)
    name: str = "groundedness"
    title: str = "Groundedness"
    is_binary: bool = False

    def score(self, example: Example, answer: Answer) -> Score:
        """Unscored where there is nothing to support, or to support it by."""
        if (result := unscorable(example, answer)) is not None:
            return result
        passages, question = passages_of(example)
        return self.score_against(example, answer, passages=passages, question=question)

    def score_against(self, example: Example, answer: Answer, *, passages: Sequence[str], question: str) -> Score:
        """The same with passages that are given: those that were retrieved."""
        if not any(passage.strip() for passage in passages):
            return unscored(example, "there are no passages beside the question")
        if self.abstentions.is_abstention(answer.text):
            return unscored(example, "the answer says that the passages do not answer the question")
        value = groundedness(answer.text, passages=passages, question=question)
        if value is None:
            reason = "the answer says nothing that passages could support"
            return unscored(example, reason) if answer.text.strip() else scored(example, 0.0)
        return scored(example, value)


def learn_groundedness(train: Sequence[Example]) -> Groundedness:
    """The grader, with how training answers say that the passages do not answer: the same words again and again, unsupported."""
    often = often_said(Counter(plain(example.answer) for example in train))
    repeated = [example for example in train if plain(example.answer) in often]
    supports = [(plain(example.answer), _support(example)) for example in repeated]
    return Groundedness(abstentions=Abstentions(unsupported(supports, below=_LOW)))


def passages_of(example: Example) -> tuple[tuple[str, ...], str]:
    """The passages in a prompt, and the question about them.

    What differs from system message to system message is passages. Otherwise they stand in what the user says beside the
    question: the question is the last line with a question mark, if it is the first or the last of all lines, and everything is
    passages where there is none. Instructions, the same for all examples, are never passages.
    """
    if example.context:
        return (example.context,), example.user_text
    lines = [line for line in example.user_text.splitlines() if line.strip()]
    for place in (len(lines) - 1, 0):
        if lines and "?" in lines[place]:
            return tuple(lines[:place] + lines[place + 1 :]), lines[place]
    return tuple(lines), ""


def _support(example: Example) -> float:
    passages, question = passages_of(example)
    return groundedness(example.answer, passages=passages, question=question) or 0.0


@dataclass(frozen=True, slots=True)
class _Told:
    """A word that could be supported."""

    stem: str
    is_number_or_name: bool


def _informative(sentence: str) -> Iterator[_Told]:
    for place, token in enumerate(WORD.findall(sentence)):
        if token.casefold() not in _EVERYDAY:
            is_name = token[0].isupper() and place > 0  # every sentence starts with a capital letter
            yield _Told(_stem(token), token[0].isdigit() or is_name)


def _stem(token: str) -> str:
    """A word without its ending, a number without commas between its thousands.

    >>> [_stem(token) for token in ("Bridges", "bridge's", "opened", "1,931.50", "was")]
    ['bridg', 'bridg', 'open', '1931.50', 'was']
    """
    if token[0].isdigit():
        return re.sub(r",(?=\d{3}\b)", "", token)
    word = re.sub("['’]s$", "", token.casefold())
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word
