"""Any OpenAI-compatible endpoint as an engine. The only place of a study that opens a connection, and only when it is named."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator

from fettle.answering.address import public_address
from fettle.answering.breaker import Breaker
from fettle.answering.endpoint_client import STUDY, Patience, endpoint_client, endpoint_error
from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.chat.tools import tool_as_wire
from fettle.errors import RemoteError
from fettle.records import Answer, FinishReason, Message, Prompt, Usage
from fettle.settings import get_settings

if TYPE_CHECKING:
    from openai import BadRequestError

_PARALLEL_REQUESTS = 8
_THINKING_TOKENS = 8192
"""Room for a reasoning model's thoughts, which count as tokens of the answer."""
_THOUGHT_START, _THOUGHT_END = "<think>", "</think>"
"""Around the thought, where a server does not tell it from the answer; templates that open it leave the end alone."""
_CODE_FENCE = re.compile(r"```(?:\w*\n|json\b)?(.*?)```", re.DOTALL)
_REMEDY = "check --remote, --remote-model and FETTLE_REMOTE_API_KEY"
_CHARACTERS_PER_TOKEN = 4  # for sizes only; the endpoint counts what it bills


class OpenAIEngine:
    """Answers through `POST /chat/completions` of an endpoint, and gives it up when it fails several times in a row. Safe for
    threads.

    Nothing is sent before the first prompt, or `require_reachable`. A prompt that is not asked any more gets a failed answer.

    Args:
        url: Base URL, usually ending in /v1. What may be secret in it is sent and never shown.
        model: The endpoint's name for the model.
        params: What else to say of how it answers, such as `seed`; wins over what is said otherwise.
        remedy: What to do where it does not answer at all.
        patience: How long it is waited for.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        params: Mapping[str, float | str] | None = None,
        remedy: str = _REMEDY,
        patience: Patience = STUDY,
    ) -> None:
        self._address, self._model = public_address(url), model
        self._params, self._remedy = dict(params or {}), remedy
        self._patience = patience
        self._key = get_settings().remote_api_key
        self._client = endpoint_client(url, self._key, patience)
        self._breaker = Breaker(patience.max_failures, pause_seconds=patience.pause_seconds)
        self._greeting, self._is_greeted = Lock(), False
        self._takes_schema = True
        self._takes_other_limits = False
        self._thinks = False

    @property
    def name(self) -> str:
        """The model and where it runs."""
        return f"{self._model} at {self._address}"

    @property
    def max_tokens(self) -> int | None:
        """Endpoints do not say."""
        return None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def count_prompt_tokens(self, prompt: Prompt) -> int:
        """An estimate by length; the endpoint's own count comes with each answer."""
        return sum(len(message.content) for message in prompt.messages) // _CHARACTERS_PER_TOKEN + 1

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        """As many as are asked at the same time."""
        numbers = range(len(prompts))
        return tuple(
            tuple(numbers[start : start + _PARALLEL_REQUESTS]) for start in range(0, len(prompts), _PARALLEL_REQUESTS)
        )

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        """Greedy answers unless `params` say otherwise, through the endpoint's structured output where it has it."""
        options.require_plain(self.name)
        with self._greeting:
            if not self._is_greeted and self._breaker.reason is None:
                try:
                    self.require_reachable()
                except RemoteError as error:
                    if not self._is_asked_again(error):
                        self._breaker.open(error.problem)
                    else:
                        self._breaker.count(has_failed=True)
                        return tuple(_failed(prompt, error.problem) for prompt in prompts)
        started = time.perf_counter()
        with ThreadPoolExecutor(max_workers=_PARALLEL_REQUESTS) as pool:
            answers = tuple(pool.map(lambda prompt: self._answer(prompt, options), prompts))
        seconds = (time.perf_counter() - started) / max(1, len(prompts))
        return tuple(answer.taking(seconds) for answer in answers)

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        """A choice for each prompt, asked for as an enum; an answer outside the choices stays as the endpoint gave it."""
        schema = {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(choices)}},
            "required": ["label"],
            "additionalProperties": False,
        }
        options = GenerationOptions(max_new_tokens=64, form=JsonForm(schema=json.dumps(schema)))
        return tuple(_unwrapped(answer) for answer in self.generate(prompts, options))

    def choose_each(self, prompts: Sequence[Prompt], choices_of_each: Sequence[Sequence[str]]) -> tuple[Answer, ...]:
        """As `choose`, with choices of its own for each prompt, one after the other."""
        asked = zip(prompts, choices_of_each, strict=True)
        return tuple(answer for prompt, choices in asked for answer in self.choose([prompt], choices))

    def require_reachable(self) -> None:
        """Ask something short, and find out whether it is a reasoning model.

        Raises:
            RemoteError: The endpoint cannot be reached, or does not know the model or the key.
        """
        from openai import OpenAIError

        patient = self._client
        self._client = patient.with_options(
            max_retries=min(1, self._patience.max_retries)
        )  # a wrong address shall be told at once
        try:
            self._greet()
            self._is_greeted = True
        except (OpenAIError, ValidationError) as error:
            raise RemoteError(
                f"the endpoint does not answer for model {self._model!r} ({self._told(error)})",
                where=self._address,
                remedy=self._remedy,
            ) from error
        finally:
            self._client = patient

    def _is_asked_again(self, error: RemoteError) -> bool:
        """Whether an endpoint that has refused the greeting is greeted with the next request: where it serves, one that is there
        and too busy, say, is no worse than one that refuses a request.
        """
        from openai import APIStatusError

        return self._patience.pause_seconds is not None and isinstance(error.__cause__, APIStatusError)

    def _greet(self) -> None:
        from openai import BadRequestError

        hello = Prompt(example_id="", messages=(Message(role="user", content="Hi"),))
        try:
            self._complete(hello, 1, None)
        except BadRequestError as error:
            if not _refuses_limits(error):
                raise
            self._takes_other_limits = self._thinks = True
            self._complete(hello, 1, None)

    def _answer(self, prompt: Prompt, options: GenerationOptions) -> Answer:
        from openai import OpenAIError

        if self._breaker.reason is not None:
            return _failed(prompt, f"not asked: {self._breaker.reason}")
        try:
            completion = self._complete_in_form(prompt, options)
        except (OpenAIError, ValidationError) as error:
            self._breaker.count(has_failed=not _is_about_the_prompt(error))
            num_read = self.count_prompt_tokens(prompt) if _may_be_billed(error) else 0
            return _failed(prompt, self._told(error), num_prompt_tokens=num_read)
        self._breaker.count(has_failed=False)
        usage = completion.usage
        if not completion.choices:
            num_read = usage.prompt_tokens if usage else self.count_prompt_tokens(prompt)
            return _failed(prompt, "the endpoint answered without a choice", num_prompt_tokens=num_read)
        choice = completion.choices[0]
        return Answer(
            example_id=prompt.example_id,
            text=_without_thought(choice.message.content or choice.message.refusal or ""),
            finish_reason=FinishReason.LENGTH if choice.finish_reason == "length" else FinishReason.STOP,
            usage=Usage(
                prompt_tokens=usage.prompt_tokens if usage else self.count_prompt_tokens(prompt),
                completion_tokens=usage.completion_tokens if usage else 0,
                seconds=0.0,  # known when the whole batch is done
            ),
        )

    def _told(self, error: Exception) -> str:
        return endpoint_error(error, wanted="chat completion", key=self._key, patience=self._patience)

    def _complete_in_form(self, prompt: Prompt, options: GenerationOptions) -> _Completion:
        from openai import BadRequestError

        form = options.json_form if self._takes_schema else None
        try:
            return self._complete_thought(prompt, options.max_new_tokens, form)
        except BadRequestError:
            if form is None:
                raise
        completion = self._complete_thought(prompt, options.max_new_tokens, None)
        self._takes_schema = False  # it was the form: many endpoints have none, and the prompt alone must do
        return completion

    def _complete_thought(self, prompt: Prompt, max_new_tokens: int, form: JsonForm | None) -> _Completion:
        """A completion that was given room for thoughts, where the model shows that it has them and they used up the answer's."""
        had_room = self._thinks
        completion = self._complete(prompt, max_new_tokens, form)
        is_cut = any(choice.finish_reason == "length" and _has_thought(choice.message) for choice in completion.choices)
        if had_room or not is_cut:
            return completion
        self._thinks = True
        return self._complete(prompt, max_new_tokens, form)

    def _complete(self, prompt: Prompt, max_new_tokens: int, form: JsonForm | None) -> _Completion:
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [_message_as_wire(message) for message in prompt.messages],
        }
        limit = max_new_tokens + (_THINKING_TOKENS if self._thinks else 0)
        if self._takes_other_limits:
            request["max_completion_tokens"] = limit
        else:
            request |= {"max_tokens": limit, "temperature": 0}
        request |= self._params
        if prompt.tools:
            request["tools"] = [tool_as_wire(tool) for tool in prompt.tools]
        if form is not None:
            schema = {"name": "answer", "schema": json.loads(form.schema), "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        # The SDK's own parsing lets any JSON, and any page, through as a completion.
        raw = self._client.chat.completions.with_raw_response.create(**request)
        return _Completion.model_validate_json(raw.http_response.content)


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(0, ge=0)


class _Completion(BaseModel):
    """As much of a chat completion as is read here; endpoints differ in the rest."""

    choices: list[_Choice]
    usage: _Usage | None = None

    @field_validator("usage", mode="wrap")
    @classmethod
    def _none_where_it_cannot_be(cls, usage: Any, handler: ValidatorFunctionWrapHandler) -> _Usage | None:
        """An answer is not lost for counts that are none: it is as if they had not come."""
        try:
            return handler(usage)
        except ValidationError:
            return None


def _has_thought(message: _Message) -> bool:
    """Whether the model thought before it answered: in a field of its own, or in the text."""
    told_apart = message.reasoning_content or message.reasoning
    return bool(told_apart) or (message.content or "").lstrip().startswith(_THOUGHT_START)


def _without_thought(text: str) -> str:
    """The answer after a reasoning model's thought; "" where the thought did not end.

    >>> [_without_thought(text) for text in ("<think>A refund?</think>refund ", "so: refund</think> refund", "<think>A ref")]
    ['refund', 'refund', '']
    """
    _, end, answer = text.rpartition(_THOUGHT_END)
    if end:
        return answer.strip()
    return "" if answer.lstrip().startswith(_THOUGHT_START) else answer.strip()


def _message_as_wire(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _refuses_limits(error: BadRequestError) -> bool:
    """Reasoning models take neither `max_tokens` nor a temperature."""
    return error.param in ("max_tokens", "temperature") or "max_completion_tokens" in str(error)


def _is_about_the_prompt(error: Exception) -> bool:
    """The endpoint works and refuses this one prompt: too long, or filtered."""
    from openai import BadRequestError, UnprocessableEntityError

    return isinstance(error, (BadRequestError, UnprocessableEntityError))


def _may_be_billed(error: Exception) -> bool:
    """The endpoint has got the prompt, and has not refused it: an answer was lost on its way, or is none."""
    import httpx2
    from openai import APIStatusError

    was_never_sent = isinstance(error.__cause__, (httpx2.ConnectError, httpx2.ConnectTimeout))
    return not isinstance(error, APIStatusError) and not was_never_sent


def _unwrapped(answer: Answer) -> Answer:
    """The label in place of the JSON object around it, which may stand in a code fence; anything else as it is."""
    fenced = _CODE_FENCE.findall(answer.text)
    for text in (answer.text, *(fenced if len(fenced) == 1 else ())):
        label = _label_in(text)
        if label is not None:
            return replace(answer, text=label)
    return answer


def _label_in(text: str) -> str | None:
    """What a JSON object gives as its label, "" for null; None: the text is no such object.

    >>> _label_in('{"label": "refund"}'), _label_in('{"label": 3}'), _label_in('{"label": null}'), _label_in("refund")
    ('refund', '3', '', None)
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(value, dict) or "label" not in value:
        return None
    label = value["label"]
    if isinstance(label, str):
        return label
    return "" if label is None else json.dumps(label, ensure_ascii=False)


def _failed(prompt: Prompt, error: str, *, num_prompt_tokens: int = 0) -> Answer:
    usage = Usage(prompt_tokens=num_prompt_tokens, completion_tokens=0, seconds=0.0)
    return Answer(example_id=prompt.example_id, text="", finish_reason=FinishReason.ERROR, usage=usage, error=error)
