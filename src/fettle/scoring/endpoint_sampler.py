"""Grading models behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engines.openai_http import OpenAIEngine
from fettle.records import Answer, Prompt
from fettle.scoring.openai_grader import Question, Reply, SamplingParams, TokenUsage

_TOKENS_A_REPLY = 1024
_REMEDY = "check --grader-url, the `model` in the grader's JSON and FETTLE_REMOTE_API_KEY"


class EndpointSampler:
    """Asks models by the names that graders give them. Nothing is sent before the first question.

    Args:
        url: Base URL, usually ending in /v1. The key comes from FETTLE_REMOTE_API_KEY.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._engines: dict[tuple[str, SamplingParams], OpenAIEngine] = {}

    def knows(self, model: str) -> bool:  # noqa: ARG002 (the interface)
        """The endpoint is asked when there is something to ask."""
        return True

    def require_reachable(self, models: Sequence[str]) -> None:
        """Ask each model something short.

        Raises:
            RemoteError: The endpoint cannot be reached, or does not know the model or the key.
        """
        for model in models:
            self._engine(model, SamplingParams()).require_reachable()

    def ask(self, questions: Sequence[Question]) -> Sequence[Reply]:
        """One reply for each question, in order; several are asked at a time."""
        replies: dict[int, Reply] = {}
        for kind in dict.fromkeys((one.model, one.params, one.json_schema) for one in questions):
            alike = [n for n, one in enumerate(questions) if (one.model, one.params, one.json_schema) == kind]
            model, params, schema = kind
            prompts = [Prompt(example_id=str(number), messages=questions[number].messages) for number in alike]
            limit = params.max_completion_tokens or _TOKENS_A_REPLY
            options = GenerationOptions(max_new_tokens=limit, form=JsonForm(schema=schema))
            answers = self._engine(model, params).generate(prompts, options)
            replies |= zip(alike, map(_reply, answers), strict=True)
        return [replies[number] for number in range(len(questions))]

    def _engine(self, model: str, params: SamplingParams) -> OpenAIEngine:
        key = (model, params)
        if key not in self._engines:
            self._engines[key] = OpenAIEngine(self._url, model, params=_as_wire(params), remedy=_REMEDY)
        return self._engines[key]


def _as_wire(params: SamplingParams) -> dict[str, float | str]:
    """What is sent beside the limit of tokens, as far as the grader says it."""
    told = {
        "seed": params.seed,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "reasoning_effort": params.reasoning_effort,
    }
    return {name: value for name, value in told.items() if value is not None}


def _reply(answer: Answer) -> Reply:
    usage = TokenUsage(prompt_tokens=answer.usage.prompt_tokens, completion_tokens=answer.usage.completion_tokens)
    return Reply(text=answer.text, usage=usage, error=answer.error if answer.has_failed else None)
