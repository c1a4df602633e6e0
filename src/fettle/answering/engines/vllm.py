"""A vLLM server as an engine: the base model that it serves, or an adapter that it is told to load beside it.

It is handed token ids through `POST /v1/completions` and gives token ids back: its own template and tokenizer have no part in it.

Source: vLLM's documentation, "OpenAI-Compatible Server" (`return_token_ids`, `return_tokens_as_token_ids`, `prompt_logprobs`,
`stop_token_ids`).

Legend: N tree nodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from fettle.answering.choices import ChoiceTree
from fettle.answering.engine import JsonForm
from fettle.answering.engines.token_engine import NUM_LIKELY, TokenEngine
from fettle.answering.engines.vllm_server import ServedBase, VllmServer
from fettle.errors import IntegrityError
from fettle.models.load import LoadedModel

_ROWS = 64
"""Requests under way at once; the server makes batches of them."""
TOKEN_PREFIX = "token_id:"
"""What stands before a token's id where log-probabilities are told."""
ASKED_ALWAYS = {
    "return_token_ids": True,
    "add_special_tokens": False,
    "skip_special_tokens": False,
    "repetition_penalty": 1.0,
    "min_p": 0.0,
}
"""Of every request. What is not asked for, a server takes from the model's own generation settings."""


class VllmEngine(TokenEngine):
    """Answers through a server.

    Args:
        loaded: Says how prompts become tokens and which tokens end an answer; its weights are not used.
        server: What answers.
        base: The base model as the server serves it; None: the first one that it serves.
        adapter: A PEFT folder, which the server is told to load; None: the base model that it serves.
        adapter_name: What the server is to call the adapter.
        served_adapter: An adapter that the server has already, by its name there, and keeps; None: none of these.

    Raises:
        RemoteError: The server cannot be reached, serves no model, or does not load the adapter.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        server: VllmServer,
        *,
        base: ServedBase | None = None,
        adapter: Path | None = None,
        adapter_name: str = "fettle",
        served_adapter: str | None = None,
    ) -> None:
        self._server, self._address = server, server.address
        base = base or server.first_base()
        self._max_tokens = min(loaded.max_tokens, base.max_tokens or loaded.max_tokens)
        self._adapter_name = adapter_name if adapter else None
        self._model = self._adapter_name or served_adapter or base.id
        beside = " + adapter" if adapter or served_adapter else ""
        super().__init__(loaded, name=f"{base.id}{beside} by vLLM at {self._address}", max_rows=_ROWS)
        if adapter is not None:
            server.load_adapter(adapter_name, adapter)

    @property
    def max_tokens(self) -> int | None:
        """Longest prompt and answer together, tokens, of the model and of the server."""
        return self._max_tokens

    def close(self) -> None:
        """Take the adapter off the server."""
        if self._adapter_name is not None:
            self._server.unload_adapter(self._adapter_name)
            self._adapter_name = None

    def first_log_probs(self, rows: Sequence[Sequence[int]]) -> list[Mapping[int, float]]:
        """After each row the likeliest next tokens with their natural-log probabilities."""
        asked = {"max_tokens": 1, "logprobs": NUM_LIKELY, "return_tokens_as_token_ids": True}
        return [_likely(choice, self._address) for choice in self._complete(rows, [asked] * len(rows))]

    def written(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
        """Greedy tokens after each row, the stop token included where it was reached."""
        return self._written(rows, limits, {})

    def written_in_form(self, rows: Sequence[Sequence[int]], limits: Sequence[int], form: JsonForm) -> list[list[int]]:
        """The same, inside the JSON schema, by the server's own structured output; white space is as it lets it be."""
        schema = {"name": "answer", "schema": json.loads(form.bounded_schema or form.schema)}
        return self._written(rows, limits, {"response_format": {"type": "json_schema", "json_schema": schema}})

    def edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> list[torch.Tensor]:
        """Each row's log-probability of every node's token given its parent [N + 1], 0 where nothing else may follow.

        Every choice is sent as if it were part of the prompt, up to where it is settled.
        """
        is_asked = {0, *tree.nodes_to_run}
        paths = {tuple(node for node in path if tree.parents[node] in is_asked) for path in tree.paths}
        ordered = sorted(paths)
        texts = [[*row, *(tree.token_ids[node] for node in path)] for row in rows for path in ordered]
        choices = self._complete(texts, [{"max_tokens": 1, "prompt_logprobs": 0}] * len(texts))
        edges = [torch.zeros(len(tree.token_ids)) for _ in rows]
        for number, choice in enumerate(choices):
            place, path = len(rows[number // len(ordered)]), ordered[number % len(ordered)]
            for node, said in zip(path, (choice.prompt_logprobs or [])[place:], strict=True):
                edges[number // len(ordered)][node] = _log_prob(said, tree.token_ids[node], self._address)
        return edges

    def _written(
        self, rows: Sequence[Sequence[int]], limits: Sequence[int], form: Mapping[str, Any]
    ) -> list[list[int]]:
        choices = self._complete(rows, [{"max_tokens": limit, **form} for limit in limits])
        return [self._with_end(choice) for choice in choices]

    def _with_end(self, choice: _Choice) -> list[int]:
        """The tokens written; the one that ended them is among them, whether or not the server counts it to the text."""
        tokens = list(choice.token_ids or ())
        is_told = choice.finish_reason == "stop" and choice.stop_reason in self.stop_token_ids
        if is_told and (not tokens or tokens[-1] != choice.stop_reason):
            tokens.append(int(choice.stop_reason or 0))
        return tokens

    def _complete(self, rows: Sequence[Sequence[int]], asked: Sequence[Mapping[str, Any]]) -> list[_Choice]:
        with ThreadPoolExecutor(max_workers=_ROWS) as pool:
            return list(pool.map(self._complete_one, rows, asked))

    def _complete_one(self, row: Sequence[int], asked: Mapping[str, Any]) -> _Choice:
        options = dict(asked)
        fixed = {name: options.pop(name) for name in ("max_tokens", "logprobs") if name in options}
        options |= ASKED_ALWAYS | {"stop_token_ids": sorted(self.stop_token_ids)}
        with self._server.errors_explained():
            raw = self._server.client.completions.with_raw_response.create(
                model=self._model, prompt=list(row), temperature=0, extra_body=options, **fixed
            )
            [choice] = _Completion.model_validate_json(raw.http_response.content).choices
        if choice.token_ids is None or choice.prompt_token_ids != list(row):
            raise IntegrityError(
                "the server does not say which tokens it was given and wrote"
                if choice.token_ids is None
                else "the server was given other tokens than the model was trained on",
                where=self._address,
                remedy="use a vLLM that knows `return_token_ids`, with the model of the study",
            )
        return choice


class _LogProbs(BaseModel):
    top_logprobs: list[dict[str, float] | None] = []


class _LogProb(BaseModel):
    logprob: float


class _Choice(BaseModel):
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    logprobs: _LogProbs | None = None
    prompt_logprobs: list[dict[str, _LogProb] | None] | None = None


class _Completion(BaseModel):
    """As much of a completion as is read here."""

    choices: list[_Choice]


def _likely(choice: _Choice, address: str) -> dict[int, float]:
    """The likeliest first tokens.

    Raises:
        IntegrityError: The server tells no log-probabilities, or not of token ids.
    """
    told = choice.logprobs.top_logprobs if choice.logprobs else []
    if not told or not told[0] or not all(token.startswith(TOKEN_PREFIX) for token in told[0]):
        raise _untold(address)
    return {int(token.removeprefix(TOKEN_PREFIX)): log_prob for token, log_prob in told[0].items()}


def _log_prob(said: Mapping[str, _LogProb] | None, token: int, address: str) -> float:
    """Of one token of a prompt.

    Raises:
        IntegrityError: The server does not tell it.
    """
    if said is None or str(token) not in said:
        raise _untold(address)
    return said[str(token)].logprob


def _untold(address: str) -> IntegrityError:
    return IntegrityError(
        "the server tells no log-probabilities by token id",
        where=address,
        remedy="leave --answer-with out; or use a vLLM that knows `return_tokens_as_token_ids` and `prompt_logprobs`",
    )
