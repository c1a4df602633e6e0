"""One answer by a vLLM server: what is asked of it, and its tokens read as they come.

Source: vLLM's documentation, "OpenAI-Compatible Server" (`structured_outputs`, `return_token_ids`, `return_tokens_as_token_ids`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from fettle.answering.engine import Form, GenerationOptions, Grammar
from fettle.answering.engines.vllm import ASKED_ALWAYS, TOKEN_PREFIX
from fettle.answering.engines.vllm_server import explained
from fettle.answering.stream import AnswerStream, Piece
from fettle.answering.text_stream import TextStream
from fettle.errors import BusyError, ConfigError, FettleError, IntegrityError, RemoteError, ResourceError
from fettle.records import FinishReason, TokenLogProb

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

_SEED_STEP = 0x9E3779B9
_REFUSED, _NOT_FOUND, _TOO_MANY, _UNAVAILABLE = 400, 404, 429, 503


def request_of(
    model: str,
    token_ids: Sequence[int],
    options: GenerationOptions,
    *,
    limit: int,
    number: int,
    stop_token_ids: Collection[int],
) -> dict[str, Any]:
    """The body of `POST /v1/completions`, without what is the same for all.

    Args:
        model: The base model or an adapter, as the server calls it.
        token_ids: The prompt.
        options: How the answer is written. Stop texts are looked for here.
        limit: Tokens that it may have.
        number: Tells answers apart that are drawn with one seed.
        stop_token_ids: Tokens that end it.
    """
    sampling = options.sampling
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(token_ids),
        "max_tokens": limit,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias.items()} or None,
        "seed": (sampling.seed + _SEED_STEP * number) % 2**63,
    }
    extra = ASKED_ALWAYS | {"stop_token_ids": sorted(stop_token_ids), "top_k": sampling.top_k or 0}
    if options.num_top_log_probs is not None:
        body["logprobs"] = options.num_top_log_probs
        extra["return_tokens_as_token_ids"] = True
    return body | {"extra_body": extra | _form(options.form)}


def _form(form: Form | None) -> dict[str, Any]:
    """What a form is asked for as. White space in JSON is as the server lets it be."""
    if form is None:
        return {}
    if isinstance(form, Grammar):
        return {"structured_outputs": {"grammar": form.lark}}
    schema = {"name": "answer", "schema": json.loads(form.schema)}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


class _LogProbs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


class _Piece(BaseModel):
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: _LogProbs | None = None


class _Chunk(BaseModel):
    """As much of a chunk as is read here."""

    choices: list[_Piece]


@dataclass(slots=True, kw_only=True, eq=False)
class VllmAnswer:
    """An answer on its way."""

    request: dict[str, Any]
    """As of `request_of`."""
    adapter: str | None
    """Who answers; None: the base model."""
    stream: AnswerStream
    stop_token_ids: Collection[int]
    decode: Callable[[Sequence[int]], str]
    space: str
    """What the template puts in front of every answer."""
    stop: Sequence[str]
    """Texts before which it ends."""
    num_top_log_probs: int | None
    is_whole: bool = False
    """Its end, or what went wrong, has been passed on."""

    def end(self, last: Piece | FettleError) -> None:
        """Pass on what comes last."""
        self.is_whole = True
        self.stream.put(last)

    async def write(self, client: AsyncOpenAI, load_again: Callable[[str], Awaitable[bool]]) -> None:
        """Ask for it, and pass on what comes, up to its end or to what went wrong.

        Args:
            client: Of the server.
            load_again: Has the server load an adapter that it has forgotten.
        """
        from openai import APIStatusError, OpenAIError

        try:
            try:
                await self._written(client)
            except APIStatusError as error:
                is_forgotten = error.status_code == _NOT_FOUND and self.adapter is not None
                if not is_forgotten or not await load_again(self.adapter or ""):
                    raise
                await self._written(client)
        except FettleError as error:
            self.end(error)
        except APIStatusError as error:
            self.end(_of_status(error))
        except (OpenAIError, ValidationError, ValueError, OSError) as error:
            self.end(explained(error, str(client.base_url.host)))
        except asyncio.CancelledError:  # nobody waits any more
            raise
        except Exception as error:  # whatever it is, who waits must be told
            self.end(RemoteError(f"what the vLLM server says cannot be read ({type(error).__name__})"))

    async def _written(self, client: AsyncOpenAI) -> None:
        chunks = await client.completions.create(**self.request, stream=True)
        reader = _Reader(self)
        async with chunks:
            async for chunk in chunks:
                for piece in _Chunk.model_validate(chunk.model_dump()).choices:
                    if reader.read(piece):
                        return
        raise RemoteError("the vLLM server ended in the middle of an answer")


class _Reader:
    """Makes pieces of an answer of what comes for it."""

    def __init__(self, answer: VllmAnswer) -> None:
        self._answer = answer
        self._text = TextStream(answer.decode, answer.stop, space=answer.space)
        self._tokens: list[int] = []
        self._log_probs: list[TokenLogProb] = []
        self._num_given = 0

    def read(self, piece: _Piece) -> bool:
        """Pass on what is new; True: the answer is whole.

        Raises:
            IntegrityError: The server was given another prompt, or does not say what it wrote.
            RemoteError: It gave up.
        """
        if piece.prompt_token_ids not in (None, self._answer.request["prompt"]):
            raise IntegrityError("the vLLM server was given other tokens than those of the model's own template")
        if piece.token_ids is None and (piece.finish_reason is None or not self._tokens):
            raise IntegrityError("the vLLM server does not say which tokens it wrote: it knows no `return_token_ids`")
        new = list(piece.token_ids or ())
        is_last = piece.finish_reason is not None
        if piece.finish_reason not in (None, "stop", "length"):
            raise RemoteError(f"the vLLM server gave an answer up ({piece.finish_reason})")
        if piece.stop_reason in self._answer.stop_token_ids and (not new or new[-1] != piece.stop_reason):
            new.append(int(piece.stop_reason or 0))  # some versions leave the token that ends an answer out
        self._tokens += new
        if self._answer.num_top_log_probs is not None:
            self._log_probs += self._log_probs_of(piece, new)
        ends = bool(new) and new[-1] in self._answer.stop_token_ids
        text = self._text.push(new[:-1] if ends else new, is_last=is_last)
        reason = FinishReason(piece.finish_reason) if piece.finish_reason else None
        self._give(text, FinishReason.STOP if self._text.has_stopped else reason)
        return is_last or self._text.has_stopped

    def _give(self, text: str, reason: FinishReason | None) -> None:
        certain = self._log_probs[self._num_given : self._text.num_certain_tokens]
        self._num_given += len(certain)
        piece = Piece(text=text, log_probs=tuple(certain), finish_reason=reason, num_tokens=len(self._tokens))
        if reason:
            self._answer.end(replace(piece, other_log_probs=tuple(self._log_probs[self._num_given :])))
        elif text or certain:
            self._answer.stream.put(piece)

    def _log_probs_of(self, piece: _Piece, tokens: Sequence[int]) -> list[TokenLogProb]:
        """Of the tokens of a piece.

        Raises:
            IntegrityError: The server does not tell them.
        """
        told = piece.logprobs
        if told is None or len(told.tokens) < len(piece.token_ids or ()):
            raise IntegrityError("the vLLM server tells no log-probabilities")
        num_top = self._answer.num_top_log_probs or 0
        found = []
        tops = told.top_logprobs or [None] * len(told.tokens)
        for token, log_prob, top in zip(tokens, told.token_logprobs, tops, strict=False):
            likely = sorted(((_token(name), value) for name, value in (top or {}).items()), key=lambda pair: -pair[1])
            found.append(
                TokenLogProb(
                    token_id=token,
                    log_prob=float("-inf") if log_prob is None else log_prob,
                    top=tuple(likely[:num_top]),
                )
            )
        return found


def _token(name: str) -> int:
    if not name.startswith(TOKEN_PREFIX):
        raise IntegrityError("the vLLM server tells no log-probabilities by token id")
    return int(name.removeprefix(TOKEN_PREFIX))


def _of_status(error: APIStatusError) -> FettleError:
    """What a refusal by the server is to who asked."""
    told = str(error.message)[:300]
    if error.status_code == _TOO_MANY:
        waits = error.response.headers.get("retry-after", "")
        seconds = float(waits) if waits.isdecimal() else 1.0
        return BusyError("the vLLM server has too many requests", retry_after_seconds=seconds)
    if error.status_code == _UNAVAILABLE:
        return ResourceError("the vLLM server is not ready to answer", remedy="ask again in a few seconds")
    if error.status_code == _REFUSED:
        return ConfigError(f"the vLLM server refuses the request ({told})", remedy="change what it does not take")
    return RemoteError(f"the vLLM server did not answer (HTTP {error.status_code})")
