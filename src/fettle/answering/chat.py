"""A chat completion: some answers to one conversation, text and function calls, as they are written.

What is asked in OpenAI's API becomes what the engine knows (sampling, grammars, texts that end an answer) here, and what the engine
writes becomes text and calls. HTTP has no part in it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import StrEnum

from fettle.answering.call_grammar import CallRules, added_token_ids, call_grammar
from fettle.answering.choices import log_share
from fettle.answering.engine import Form, GenerationOptions, Grammar, JsonForm
from fettle.answering.sampling import Sampling
from fettle.answering.serving_engine import ServingEngine
from fettle.answering.stream import AnswerStream, Piece
from fettle.chat.call_format import shown_token_ids
from fettle.chat.call_reader import CallEvent, CallReader, TextPiece
from fettle.errors import ConfigError, EngineError, FettleError
from fettle.records import Answer, FinishReason, Message, Prompt, TokenLogProb, Tool


class ChatEnd(StrEnum):
    """Why a choice ends, in the words of OpenAI's API."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class AmongTexts:
    """An answer is the one of some texts that is taken by the likelihood of each, not token by token."""

    texts: tuple[str, ...]
    taken: Callable[[Answer], Answer]
    """Puts the text that is taken into an answer, from the log-likelihoods that it carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What is asked."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    """What the template is given."""
    rules: CallRules | None = None
    """What may be called; None: nothing, whatever the model writes is text."""
    text_form: Form | None = None
    """Of an answer that is no call; a grammar only where nothing may be called."""
    among: AmongTexts | None = None
    """None: answers are written. Looked at where the likeliest answer is wanted; one that is drawn is written in `text_form`."""
    sampling: Sampling
    stop: tuple[str, ...] = ()
    max_new_tokens: int | None = None
    """Of each choice; None: up to the end of the context."""
    num_top_log_probs: int | None = None
    """As of `GenerationOptions`."""
    num_choices: int = 1
    end_user: str | None = None
    """Whom it is from, as who asks names them; None: not said. Nothing is written by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceDelta:
    """Some more of a choice."""

    events: tuple[CallEvent, ...] = ()
    log_probs: tuple[TokenLogProb, ...] = ()
    end: ChatEnd | None = None
    """In the last one."""
    is_cut_in_call: bool = False
    """In the last one: a call was cut before its name was whole, and nothing is told of it."""
    log_share: float | None = None
    """In the last one, as of `Piece`."""


class Choice:
    """One answer on its way; iterating gives it piece by piece.

    Args:
        stream: What the engine writes.
        reader: Tells calls from text; None: all is text.
    """

    def __init__(self, stream: AnswerStream, reader: CallReader | None) -> None:
        self._stream, self._reader = stream, reader
        self.num_tokens = 0
        """Tokens so far."""

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the conversation, with the template."""
        return self._stream.num_prompt_tokens

    async def __aiter__(self) -> AsyncIterator[ChoiceDelta]:
        """What is new, until the choice ends.

        Raises:
            FettleError: The answer could not be written.
        """
        async for piece in self._stream:
            self.num_tokens = piece.num_tokens
            events = self._read(piece.text, piece.finish_reason)
            if self._reader is not None and self._reader.is_done:
                self._stream.give_up()
                yield ChoiceDelta(events=events, log_probs=piece.log_probs, end=ChatEnd.TOOL_CALLS)
                return
            end = self._end(piece.finish_reason) if piece.finish_reason else None
            if events or piece.log_probs or end:
                in_call = self._reader is not None and self._reader.is_cut_in_call
                yield ChoiceDelta(
                    events=events,
                    log_probs=piece.log_probs,
                    end=end,
                    is_cut_in_call=in_call,
                    log_share=piece.log_share,
                )

    def give_up(self) -> None:
        """Say that nobody waits any more."""
        self._stream.give_up()

    def _read(self, text: str, finish_reason: FinishReason | None) -> tuple[CallEvent, ...]:
        if self._reader is None:
            return (TextPiece(text),) if text else ()
        if finish_reason is FinishReason.LENGTH:
            return tuple(self._reader.cut(text))
        return tuple(self._reader.push(text, is_last=finish_reason is not None))

    def _end(self, reason: FinishReason) -> ChatEnd:
        if reason is FinishReason.LENGTH:
            return ChatEnd.LENGTH
        return ChatEnd.TOOL_CALLS if self._reader is not None and self._reader.num_calls else ChatEnd.STOP


def begin_chat(engine: ServingEngine, request: ChatRequest, *, adapter: str | None) -> tuple[Choice, ...]:
    """Ask an engine; the choices, which are being written from now on; see `begin_streams`."""
    return tuple(Choice(stream, _reader(engine, request)) for stream in begin_streams(engine, request, adapter=adapter))


def begin_streams(engine: ServingEngine, request: ChatRequest, *, adapter: str | None) -> tuple[AnswerStream, ...]:
    """Ask an engine; the answers as texts, which are being written from now on. Rendering the conversation takes milliseconds.

    Args:
        engine: Holds the model.
        request: What is asked.
        adapter: Who answers; None: the base model.

    Raises:
        BusyError: Too many requests wait.
        ConfigError: A form or a function's schema cannot be kept, or the model does not call functions.
        ContextLengthError: The conversation is longer than the context.
        DataError: The template refuses the conversation.
    """
    calls = engine.call_format if request.rules is not None else None
    if request.rules is not None and request.rules.must_call and calls is None:
        raise ConfigError(
            "this model's chat template does not say how it calls functions, so it cannot be made to call one",
            where="tool_choice",
            remedy="leave `tool_choice` out",
        )
    options = GenerationOptions(
        max_new_tokens=request.max_new_tokens or engine.loaded.max_tokens,
        form=_form(engine, request),
        shown_token_ids=shown_token_ids(engine.loaded.renderer, calls) if calls else frozenset(),
        sampling=request.sampling,
        stop=request.stop,
        num_top_log_probs=request.num_top_log_probs,
    )
    prompt = Prompt(example_id="", messages=request.messages, tools=request.tools)
    if request.among is not None and request.sampling.is_plain:
        is_whole = options.max_new_tokens >= engine.longest_choice(request.among.texts)
        if request.num_choices == 1 and is_whole and options.is_plain:
            return (_taken(engine, prompt, request.among, adapter),)
        # What else is asked for is said of the text that is taken, while it is written.
        text = request.among.taken(engine.choose(prompt, request.among.texts, adapter=adapter)).text
        options = replace(options, form=one_of([text]))
    return engine.submit_several(prompt, options, adapter=adapter, numbers=range(request.num_choices))


def one_of(texts: Sequence[str]) -> Grammar:
    """The form of an answer that is one of some texts and nothing else."""
    return Grammar(lark=f"start: {' | '.join(json.dumps(text) for text in texts)}\n")


def _taken(engine: ServingEngine, prompt: Prompt, among: AmongTexts, adapter: str | None) -> AnswerStream:
    """One of some texts, in one piece."""
    asked = engine.choosing(prompt, among.texts, adapter=adapter)
    renderer = engine.loaded.renderer
    stream = AnswerStream(len(renderer.prompt_tokens(prompt.messages, prompt.tools)))

    def pass_on(chosen: Future[Answer]) -> None:
        if chosen.cancelled():
            stream.put(EngineError("nobody waits for this answer any more"))
        elif (error := chosen.exception()) is not None:
            stream.put(error if isinstance(error, FettleError) else EngineError(f"the model could not be run: {error}"))
        else:
            taken = among.taken(chosen.result())
            piece = Piece(
                text=taken.text,
                finish_reason=FinishReason.STOP,
                num_tokens=len(renderer.answer_tokens(taken.text)),
                log_share=log_share(taken),
            )
            stream.put(piece)

    stream.when_given_up(asked.cancel)
    asked.add_done_callback(pass_on)
    return stream


def give_up_all(choices: Sequence[Choice]) -> None:
    """Say of some choices that nobody waits for them any more."""
    for choice in choices:
        choice.give_up()


def _form(engine: ServingEngine, request: ChatRequest) -> Form | None:
    rules, calls = request.rules, engine.call_format if request.rules else None
    if rules is None or calls is None or not (rules.must_call or rules.strict_names):
        return request.text_form
    token_ids = added_token_ids(engine.loaded.renderer.tokenizer.added_tokens_decoder)
    text_form = request.text_form if isinstance(request.text_form, JsonForm) else None
    return call_grammar(calls, replace(rules, text_form=text_form), token_ids)


def _reader(engine: ServingEngine, request: ChatRequest) -> CallReader | None:
    if request.rules is None or engine.call_format is None:
        return None
    names = [tool.name for tool in request.rules.tools]
    rules = request.rules
    return CallReader(engine.call_format, names, at_most_one=rules.at_most_one, must_call=rules.must_call)
