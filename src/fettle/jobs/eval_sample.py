"""What a model said to an item, as OpenAI's API shows it; kept with the item in that form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fettle.answering.stream import Piece
from fettle.errors import DataError, FettleError
from fettle.jobs.eval_source import Completion
from fettle.records import Message
from fettle.scoring.openai_grader import Sample, TokenUsage

_NOT_KNOWN: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "seed": 0, "max_completion_tokens": 0}


def given_sample(sample: Mapping[str, Any] | None, place: str) -> dict[str, Any]:
    """An answer that the data had: `output_text`, or `choices` as of a chat completion; and `output_tools`.

    Raises:
        DataError: There is no text in it.
    """
    return {
        "input": [],
        "output": [_message(sample or {"output_text": ""}, place)],
        "finish_reason": "stop",
        "model": "",
        "usage": usage_body(TokenUsage()),
        "error": None,
        **_NOT_KNOWN,
    }


def as_sample(
    messages: Sequence[Message], answer: tuple[Piece, int] | FettleError, completion: Completion
) -> dict[str, Any]:
    """What a model was asked for this run, and what it said, or why it said nothing.

    Args:
        messages: What it was asked.
        answer: The whole answer and the tokens of its prompt.
        completion: How it was asked.
    """
    output, reason, usage, error = [], "", TokenUsage(), None
    if isinstance(answer, FettleError):
        error = {"code": "sampling_failed", "message": answer.describe()}
    else:
        piece, num_prompt_tokens = answer
        output, reason = [{"role": "assistant", "content": piece.text}], str(piece.finish_reason)
        usage = TokenUsage(prompt_tokens=num_prompt_tokens, completion_tokens=piece.num_tokens)
    sampling = completion.options.sampling
    return {
        "input": [{"role": message.role, "content": message.content} for message in messages],
        "output": output,
        "finish_reason": reason,
        "model": completion.model,
        "usage": usage_body(usage),
        "error": error,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "max_completion_tokens": completion.options.max_new_tokens,
    }


def sample_to_grade(sample: Mapping[str, Any]) -> Sample:
    """What graders are given."""
    [message] = sample["output"]
    return Sample(output_text=message["content"], tool_calls=tuple(message.get("tool_calls", ())))


def usage_of(sample: Mapping[str, Any]) -> TokenUsage:
    """Tokens that it took."""
    usage = sample["usage"]
    return TokenUsage(prompt_tokens=usage["prompt_tokens"], completion_tokens=usage["completion_tokens"])


def usage_body(usage: TokenUsage) -> dict[str, int]:
    """Tokens as the API shows them."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": 0,
    }


def _message(sample: Mapping[str, Any], place: str) -> dict[str, Any]:
    text, calls = sample.get("output_text"), sample.get("output_tools")
    if text is None and isinstance(choices := sample.get("choices"), list) and choices:
        message = choices[0].get("message") if isinstance(choices[0], dict) else None
        if isinstance(message, dict):
            text, calls = message.get("content") or "", calls or message.get("tool_calls")
    if not isinstance(text, str):
        raise DataError(f'{place}: `sample` has no text; expected {{"output_text": "..."}}')
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise DataError(f"{place}: `sample.output_tools` is no list of calls")
    return {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
