"""Kept requests and what was said of the answers become examples for the next study.

The wanted answer is the correction where there is one, else the answer that was given. What an example learns is that answer alone:
answers of earlier turns, which nobody has looked at, have weight 0. A conversation's turns share a group, so that no study tests on
what it was trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from fettle.examples.checks.repeats import comparable_answer
from fettle.examples.duplicates import comparable_text
from fettle.examples.leaks import without_leaks
from fettle.examples.notes import Note, UnusableRowError, info, left_out
from fettle.examples.row_formats.chat import ChatFormat
from fettle.records import Example, Finding, Location, Message
from fettle.store.traffic import Feedback, KeptRequest
from fettle.traffic.only import Only
from fettle.traffic.redact import holds_placeholder, redacted

_LIKED_ABOVE = 0.5
_CUT_SHORT = "length"
_LATER = "nothing: the later one was kept"
_BETWEEN = "\0"


class Standing(StrEnum):
    """What is known of an answer; a later member outweighs an earlier one where the same is asked."""

    UNJUDGED = "unjudged"
    LIKED = "liked"
    CORRECTED = "corrected"


@dataclass(frozen=True, slots=True, kw_only=True)
class FromTraffic:
    """Examples from kept requests, and what became of the others."""

    examples: tuple[Example, ...]
    """Their ids are those of the completions."""
    findings: tuple[Finding, ...]
    num_requests: int
    """That were looked at."""
    num_by_standing: Mapping[Standing, int]
    """Of the examples."""


def examples_from_traffic(
    kept: Sequence[KeptRequest],
    feedback: Mapping[str, Sequence[Feedback]],
    *,
    only: Only = Only.LIKED,
    test: Sequence[Example] = (),
) -> FromTraffic:
    """What can be learned from kept requests.

    Left out, each with a finding: disliked answers without a correction, answers cut short, answers that personal data were taken
    out of, requests that no example can be made of, earlier ones of those that ask the same, and those that share what they ask
    with a test example. Requests whose texts were not kept are counted.

    Args:
        kept: In the order in which they came.
        feedback: What was said of them, the oldest first, by completion; the last score and the last correction count.
        only: Which of them.
        test: None of these may be among the examples, nor nearly.
    """
    findings: list[Finding] = []
    found: list[tuple[Example, Standing]] = []
    groups = _groups(kept)
    for request in kept:
        try:
            standing = _standing(request, feedback.get(request.id, ()), only)
            if standing is not None:
                example = _example(request, feedback.get(request.id, ()))
                found.append((replace(example, group=groups[request.id]), standing))
        except UnusableRowError as error:
            findings.append(error.note.about(request.id))
    num_without = sum(request.request is None for request in kept)
    if num_without:
        text = f"{num_without} of {len(kept)} requests were kept without their texts"
        findings.append(info("texts-not-kept", text, "keep a greater --share").about("kept requests"))
    found, repeats = _without_repeats(found)
    findings += repeats
    standing_of = {example.id: standing for example, standing in found}
    held_out = [*test, *(clean for one in test if (clean := _redacted(one)) != one)]
    left, leaks = without_leaks([example for example, _ in found], held_out, "test")
    findings += [replace(one, line=None) for one in leaks]
    standings = [standing_of[example.id] for example in left]
    return FromTraffic(
        examples=tuple(left),
        findings=tuple(findings),
        num_requests=len(kept),
        num_by_standing={one: standings.count(one) for one in Standing},
    )


def conversation_of(messages: Sequence[Message]) -> str:
    """A name for the conversation that some messages are of: that of its beginning, up to the first thing a user says.

    >>> hello = Message(role="user", content="Hello")
    >>> conversation_of([hello]) == conversation_of([hello, Message(role="assistant", content="Hi."), hello])
    True
    """
    first = next((place for place, message in enumerate(messages) if message.role == "user"), len(messages) - 1)
    beginning = "\0".join(f"{message.role}\1{message.content}" for message in messages[: first + 1])
    return hashlib.sha256(beginning.encode()).hexdigest()[:16]


def beginnings(messages: Sequence[Message]) -> tuple[str, ...]:
    """Names of all that may have been sent before in the same conversation, the shortest first, and last of what is sent now.

    Each answer in it ends a request that may have been made. Where none of them was, the answers are examples that the program
    sends along, and what is sent now begins a conversation.

    >>> hello = Message(role="user", content="Hello")
    >>> beginnings([hello])[0] == beginnings([hello, Message(role="assistant", content="Hi."), hello])[0]
    True
    """
    names: list[str] = []
    said = hashlib.sha256()
    for place, message in enumerate(messages):
        if message.role == "assistant" and place:
            names.append(said.copy().hexdigest()[:16])
        said.update((_BETWEEN if place else "").encode() + f"{message.role}\1{message.content}".encode())
    return (*names, said.hexdigest()[:16])


def _groups(kept: Sequence[KeptRequest]) -> dict[str, str]:
    """The conversation of each request, by its id: named by the first that was kept of it."""
    known: dict[str, str] = {}
    groups: dict[str, str] = {}
    for request, messages in texts_of(kept):
        *before, whole = beginnings(messages)
        group = next((known[one] for one in reversed(before) if one in known), known.get(whole, whole))
        groups[request.id] = known[whole] = group
    return groups


def _standing(request: KeptRequest, said: Sequence[Feedback], only: Only) -> Standing | None:
    """What is known of an answer; None: it is not asked for, or has no texts.

    Raises:
        UnusableRowError: It is asked for, and must not be learned.
    """
    if request.request is None:
        return None
    if _corrected(said) is not None:
        return Standing.CORRECTED
    score = next((one.score for one in reversed(said) if one.score is not None), None)
    if only is Only.CORRECTED or (only is Only.LIKED and score is None):
        return None
    if score is not None and score <= _LIKED_ABOVE:
        problem = f"was disliked (score {score:g}), and nobody has said what it should have been"
        raise UnusableRowError("disliked", problem, "send a corrected answer as feedback on it")
    if request.finish_reason == _CUT_SHORT:
        raise UnusableRowError("cut-short", "the answer ends at the token limit", "ask for more tokens, or correct it")
    return Standing.UNJUDGED if score is None else Standing.LIKED


def _corrected(said: Sequence[Feedback]) -> str | None:
    return next((one.corrected_answer for one in reversed(said) if one.corrected_answer is not None), None)


def _example(request: KeptRequest, said: Sequence[Feedback]) -> Example:
    """An example of a request with texts.

    Raises:
        UnusableRowError: It breaks the format.
    """
    assert request.request is not None, "asked of requests with texts"
    assert request.answer is not None, "kept with them"
    corrected = _corrected(said)
    answer = request.answer if corrected is None else {"role": "assistant", "content": corrected}
    if request.is_redacted and holds_placeholder(json.dumps(answer, ensure_ascii=False)):
        problem = "personal data were taken out of the answer, and a model would learn to answer `[email]` and the like"
        raise UnusableRowError("redacted-answer", problem, "keep such a key's requests with --no-redact, if you may")
    row = {**request.request, "messages": [*request.request["messages"], answer]}
    conversation = ChatFormat().convert(row)
    messages = tuple(replace(one, weight=0) if one.role == "assistant" else one for one in conversation.messages[:-1])
    return Example(
        id=request.id,
        messages=(*messages, conversation.messages[-1]),
        source=Location(file=request.id, line=1),
        tools=conversation.tools,
    )


def _redacted(example: Example) -> Example:
    """As it would have been kept, had it been a request."""
    clean = (replace(one, content=redacted(one.content, is_answer=one.role == "assistant")) for one in example.messages)
    return replace(example, messages=tuple(clean))


def _without_repeats(
    found: Sequence[tuple[Example, Standing]],
) -> tuple[list[tuple[Example, Standing]], list[Finding]]:
    """One example for each thing that is asked: the last of those of which most is known."""
    order = list(Standing)
    best: dict[str, tuple[Example, Standing]] = {}
    for example, standing in found:
        asked = comparable_text(example)
        if asked not in best or order.index(standing) >= order.index(best[asked][1]):
            best[asked] = (example, standing)
    kept = {example.id for example, _ in best.values()}
    findings = [
        _repeat(example, best[comparable_text(example)]).about(example.id)
        for example, _ in found
        if example.id not in kept
    ]
    return [(example, standing) for example, standing in found if example.id in kept], findings


def _repeat(example: Example, other: tuple[Example, Standing]) -> Note:
    kept, standing = other
    if comparable_answer(example.answer) == comparable_answer(kept.answer):
        return left_out("repeat", f"asks the same as {kept.id}, with the same answer", _LATER)
    return left_out(
        "other-answer",
        f"asks the same as {kept.id}, whose answer is another and {standing.value}",
        "nothing, or correct it",
    )


def question_of(messages: Sequence[Message]) -> str:
    """What is asked, as `Example.input_text` says it of an example without a context of its own."""
    said = [message.content for message in messages if message.role == "user"]
    return "\n".join(said) if said else messages[-1].content


def texts_of(kept: Sequence[KeptRequest]) -> Iterator[tuple[KeptRequest, tuple[Message, ...]]]:
    """Requests with texts, and what was asked in them; those that cannot be read are passed over."""
    for request in kept:
        if request.request is None or request.answer is None:
            continue
        try:
            yield (
                request,
                ChatFormat().convert({"messages": [*request.request["messages"], request.answer]}).messages[:-1],
            )
        except UnusableRowError:
            continue
