"""What engines that are handed token ids have in common: our own renderer makes them, so no other template is used.

Legend: N tree nodes.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fettle.answering.choices import ChoiceTree, build_choice_tree, chosen_answers
from fettle.answering.engine import GenerationOptions, JsonForm, answer_limits
from fettle.models.load import LoadedModel
from fettle.models.token_groups import even_groups
from fettle.records import Answer, FinishReason, Prompt, Usage

if TYPE_CHECKING:
    import torch

NUM_LIKELY = 20
"""Tokens whose log-probabilities an engine is asked for, the likeliest ones."""


class TokenEngine(ABC):
    """Answers with the weights that an engine holds itself.

    Args:
        loaded: Says how prompts become tokens and which tokens end an answer; its weights are not used.
        name: What the weights and the engine are called in a report.
        max_rows: So many prompts are answered at once.
    """

    def __init__(self, loaded: LoadedModel, *, name: str, max_rows: int) -> None:
        self._loaded, self._renderer = loaded, loaded.renderer
        self._name, self._max_rows = name, max_rows

    @property
    def name(self) -> str:
        """The weights, and what they are run by."""
        return self._name

    @property
    def max_tokens(self) -> int | None:
        """Longest prompt and answer together, tokens."""
        return self._loaded.max_tokens

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return self._loaded.stop_token_ids

    @abstractmethod
    def first_log_probs(self, rows: Sequence[Sequence[int]]) -> list[Mapping[int, float]]:
        """After each row the `NUM_LIKELY` likeliest next tokens, or more, with their natural-log probabilities."""

    @abstractmethod
    def written(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
        """Greedy tokens after each row, at most as many as its limit, the stop token included where it was reached."""

    @abstractmethod
    def written_in_form(
        self, rows: Sequence[Sequence[int]], limits: Sequence[int], form: JsonForm
    ) -> Sequence[Sequence[int]]:
        """As `written`, kept inside a JSON form."""

    @abstractmethod
    def edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> Sequence[torch.Tensor]:
        """Each row's log-probability of every node's token given its parent [N + 1], 0 where nothing else may follow."""

    @abstractmethod
    def close(self) -> None:
        """Free what the engine holds."""

    def count_prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt, with the chat template."""
        return len(self.row(prompt))

    def row(self, prompt: Prompt) -> tuple[int, ...]:
        """The tokens of a prompt."""
        return self._renderer.prompt_tokens(prompt.messages, prompt.tools)

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        """Prompts of like length together, longest first."""
        lengths = [self.count_prompt_tokens(prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda index: (-lengths[index], index))
        return tuple(tuple(order[place] for place in group) for group in even_groups(len(prompts), self._max_rows))

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        """Greedy answers, kept inside the JSON form where one is asked for."""
        options.require_plain(self.name)
        started = time.perf_counter()
        rows = [self.row(prompt) for prompt in prompts]
        limits = answer_limits(rows, options.max_new_tokens, self.max_tokens)
        form = options.json_form
        written = self.written(rows, limits) if form is None else self.written_in_form(rows, limits, form)
        seconds = (time.perf_counter() - started) / len(prompts)
        return tuple(
            self._answer(prompt, Usage(prompt_tokens=len(row), completion_tokens=len(tokens), seconds=seconds), tokens)
            for prompt, row, tokens in zip(prompts, rows, written, strict=True)
        )

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        """The greedy choice for each prompt, with the likelihood of all."""
        started = time.perf_counter()
        tree = build_choice_tree([self._renderer.answer_tokens(choice) for choice in choices])
        rows = [self.row(prompt) for prompt in prompts]
        edges_BN = self.edges(rows, tree)
        seconds = (time.perf_counter() - started) / len(prompts)
        return chosen_answers(prompts, rows, choices, tree, edges_BN, seconds=seconds)

    def choose_each(self, prompts: Sequence[Prompt], choices_of_each: Sequence[Sequence[str]]) -> tuple[Answer, ...]:
        """As `choose`, with choices of its own for each prompt, one after the other."""
        asked = zip(prompts, choices_of_each, strict=True)
        return tuple(answer for prompt, choices in asked for answer in self.choose([prompt], choices))

    def _answer(self, prompt: Prompt, usage: Usage, tokens: Sequence[int]) -> Answer:
        is_ended = bool(tokens) and tokens[-1] in self.stop_token_ids
        return Answer(
            example_id=prompt.example_id,
            text=self._renderer.decode(tokens[:-1] if is_ended else tokens).strip(),
            finish_reason=FinishReason.STOP if is_ended else FinishReason.LENGTH,
            usage=usage,
        )
