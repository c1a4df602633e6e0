"""Chat completions on the wire: whole, and in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from fettle.answering.chat import ChatEnd, Choice, ChoiceDelta
from fettle.chat.call_reader import ArgumentsPiece, CallBegin, TextPiece
from fettle.records import TokenLogProb
from fettle.releases.records import ReleaseAnswered
from fettle.server.retrieving import Retrieval, RetrievalBody, retrieval_body

_LEAST_LOG_PROB = -9999.0
"""What stands for a token that cannot come, as JSON has no infinity."""

TokenTexts = Callable[[int], tuple[str, bytes]]
"""A token's text, and the bytes that it stands for."""


class TopLogProb(BaseModel):
    """A token that might have come."""

    token: str
    logprob: float
    bytes: list[int] | None


class LogProb(TopLogProb):
    """A token that came."""

    top_logprobs: list[TopLogProb]


class LogProbs(BaseModel):
    """Of the tokens of a choice."""

    content: list[LogProb] | None
    refusal: None = None


class FunctionBody(BaseModel):
    """Which function is called, with what."""

    name: str
    arguments: str


class ToolCallBody(BaseModel):
    """A call."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionBody


class MessageBody(BaseModel):
    """What the assistant says. `tool_calls` is there where it calls functions."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCallBody] | None = None


class ChoiceBody(BaseModel):
    """One answer."""

    index: int
    message: MessageBody
    logprobs: LogProbs | None
    finish_reason: ChatEnd


class UsageBody(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReleaseBody(BaseModel):
    """The release that has answered."""

    name: str
    number: int
    contender: str
    """How it answers: `tuned`, `prompt`, ..., `router`."""
    answered_by: Literal["small", "large"] | None = None
    """Which contender of a router has answered; left out, as the next two, where it is none."""
    reason: str | None = None
    """`trusted`, `not trusted`, `small failed`; where the small one answers in place of the large one, `large failed`,
    `large slow` or `budget spent`."""
    confidence: float | None = None
    """Of the small one's answer, by the router's measure; null where it gave none, or it could not be told."""


class ChatCompletionBody(BaseModel):
    """All answers to one request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    """Another one where the software or the weights are others."""
    choices: list[ChoiceBody]
    usage: UsageBody
    retrieval: RetrievalBody | None = None
    """What was searched first; left out where nothing was. Ours: OpenAI's API has no such thing."""
    release: ReleaseBody | None = None
    """Which release has answered; left out where a model was asked for. Ours, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFrame:
    """What an answer, or all chunks of one, have around their choices."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    release: ReleaseAnswered | None = None
    """None: a model was asked for."""

    def body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """The frame around some choices."""
        body: dict[str, Any] = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
            "choices": choices,
        }
        return body if self.release is None else body | {"release": release_body(self.release)}


def release_body(release: ReleaseAnswered) -> dict[str, Any]:
    """The release that has answered, on the wire."""
    body = ReleaseBody(name=release.name, number=release.number, contender=release.contender)
    if (routed := release.routed) is None:
        return body.model_dump(exclude={"answered_by", "reason", "confidence"})
    said = {"answered_by": routed.answered_by, "reason": routed.reason, "confidence": routed.confidence}
    return body.model_copy(update=said).model_dump()


@dataclass(slots=True)
class WholeChoice:
    """Collects a choice."""

    text: str = ""
    calls: list[ToolCallBody] = field(default_factory=list)
    log_probs: list[TokenLogProb] = field(default_factory=list)
    end: ChatEnd = ChatEnd.STOP
    is_cut_in_call: bool = False
    log_share: float | None = None
    """As of `answering.stream.Piece`."""

    def add(self, delta: ChoiceDelta) -> None:
        """Take the next piece."""
        for event in delta.events:
            match event:
                case TextPiece(text):
                    self.text += text
                case CallBegin(_, call_id, name):
                    self.calls.append(ToolCallBody(id=call_id, function=FunctionBody(name=name, arguments="")))
                case ArgumentsPiece(index, text):
                    self.calls[index].function.arguments += text
        self.log_probs += delta.log_probs
        self.end = delta.end or self.end
        self.is_cut_in_call = delta.is_cut_in_call
        self.log_share = delta.log_share

    def body(self, index: int, token_texts: TokenTexts | None) -> dict[str, Any]:
        """The choice; `token_texts` is None where no log-probabilities are asked for."""
        is_call = bool(self.calls) or self.is_cut_in_call
        message = MessageBody(content=None if is_call and not self.text else self.text, tool_calls=self.calls or None)
        shown = message.model_dump(exclude=None if self.calls else {"tool_calls"})
        return {
            "index": index,
            "message": shown,
            "logprobs": None if token_texts is None else log_probs_body(self.log_probs, token_texts),
            "finish_reason": self.end.value,
        }


def usage_body(choices: Sequence[Choice]) -> dict[str, int]:
    """What all choices took; the prompt counts once."""
    prompt, completion = choices[0].num_prompt_tokens, sum(choice.num_tokens for choice in choices)
    return UsageBody(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion).model_dump()


def log_probs_body(log_probs: Sequence[TokenLogProb], token_texts: TokenTexts) -> dict[str, Any]:
    """Log-probabilities of some tokens."""
    content = [
        LogProb(
            **_token(token.token_id, token.log_prob, token_texts),
            top_logprobs=[TopLogProb(**_token(number, value, token_texts)) for number, value in token.top],
        )
        for token in log_probs
    ]
    return LogProbs(content=content).model_dump()


def _token(number: int, log_prob: float, token_texts: TokenTexts) -> dict[str, Any]:
    text, raw = token_texts(number)
    return {"token": text, "logprob": max(log_prob, _LEAST_LOG_PROB), "bytes": list(raw)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkWriter:
    """Writes the chunks of one stream, which share all but their choices."""

    frame: ChatFrame
    wants_usage: bool
    token_texts: TokenTexts | None
    """None: no log-probabilities are asked for."""
    retrieval: Retrieval | None
    """Told with the last chunk of each choice."""
    _texts: dict[int, str] = field(default_factory=dict)
    """What each choice has said so far."""

    def first(self, index: int) -> dict[str, Any]:
        """What a choice begins with."""
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def of(self, index: int, delta: ChoiceDelta) -> list[dict[str, Any]]:
        """What a piece of a choice is sent as. Log-probabilities travel with the first chunk of their text."""
        deltas = [_delta(event) for event in delta.events]
        said = "".join(event.text for event in delta.events if isinstance(event, TextPiece))
        self._texts[index] = self._texts.get(index, "") + said
        if delta.log_probs and not deltas:
            deltas = [{}]
        log_probs = list(delta.log_probs)
        chunks = []
        for one in deltas:
            chunks.append(self._chunk(index, one, log_probs=log_probs))
            log_probs = []
        if delta.end:
            told = {} if self.retrieval is None else {"retrieval": retrieval_body(self.retrieval, [self._texts[index]])}
            chunks.append(self._chunk(index, {}, end=delta.end) | told)
        return chunks

    def usage(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """The last chunk, where it is asked for."""
        return self._frame([], usage=usage_body(choices))

    def _chunk(
        self, index: int, delta: dict[str, Any], *, log_probs: Sequence[TokenLogProb] = (), end: ChatEnd | None = None
    ) -> dict[str, Any]:
        shown = log_probs_body(log_probs, self.token_texts) if log_probs and self.token_texts else None
        choice = {"index": index, "delta": delta, "logprobs": shown, "finish_reason": end and end.value}
        return self._frame([choice], usage=None)

    def _frame(self, choices: list[dict[str, Any]], *, usage: dict[str, int] | None) -> dict[str, Any]:
        frame = self.frame.body("chat.completion.chunk", choices)
        return frame | {"usage": usage} if self.wants_usage else frame


def _delta(event: TextPiece | CallBegin | ArgumentsPiece) -> dict[str, Any]:
    match event:
        case TextPiece(text):
            return {"content": text}
        case CallBegin(index, call_id, name):
            function = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}
        case ArgumentsPiece(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
