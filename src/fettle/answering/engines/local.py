"""The reference engine: the transformers model with the very weights that were trained.

Legend: B rows, T tokens of a row, N tree nodes, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from fettle.answering.choices import ChoiceTree, build_choice_tree, chosen_answers
from fettle.answering.constrain import Constrainers
from fettle.answering.engine import GenerationOptions, answer_limits, require_tokens
from fettle.answering.engines.packed_choices import edges_of_each
from fettle.answering.engines.packed_writer import PackedWriter
from fettle.answering.engines.running_batch import Row
from fettle.answering.start_up_check import NUM_TOKENS, bound, difference, require_within, shortfall
from fettle.answering.writing import AnswerInWriting, Ending
from fettle.errors import ConfigError
from fettle.models.adapter import (
    adapter_layers,
    load_adapter,
    require_active,
    require_bare,
    require_in_place,
    unload_adapters,
)
from fettle.models.load import LoadedModel, require_form
from fettle.models.lora_linear import as_peft_computes
from fettle.models.row_cache import key_value_bytes
from fettle.models.shared_prefix import common_prefix_length, shared_length
from fettle.models.token_groups import token_groups
from fettle.models.understood import own_logits, require_understood
from fettle.records import Answer, FinishReason, Prompt, Usage

_ADAPTER_NAME = "tuned"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How much is answered at once."""

    max_rows: int = 96
    max_cache_bytes: int = 1 << 30
    """Of the keys and values of all prompts, what they share not counted."""


class LocalEngine:
    """Answers with a base model, or with one adapter on it.

    Args:
        loaded: The base model.
        adapter: A PEFT folder; None answers with the base model alone.
        limits: How much is answered at once.

    The base model is shared, so each batch first shows that the model is the one this engine stands for: bare, or with this
    adapter and no other.

    Raises:
        IntegrityError: An adapter is on the base model already, or its weights are not held as it says.
    """

    def __init__(self, loaded: LoadedModel, *, adapter: Path | None = None, limits: BatchLimits | None = None) -> None:
        self._loaded = loaded
        self._model = loaded.model
        self._renderer = loaded.renderer
        self._limits = limits or BatchLimits()
        self._adapter = adapter
        self._constrainers = Constrainers(
            self._renderer.tokenizer,
            end_of_turn_id=self._renderer.end_of_turn_id,
            vocabulary_size=self._vocabulary_size,
        )
        self._writer = PackedWriter(loaded)
        require_bare(self._model)
        require_form(loaded)
        self._require_runnable()
        self._peft = load_adapter(loaded, adapter, name=_ADAPTER_NAME) if adapter else None
        self._adapter_layers = adapter_layers(self._model)

    @property
    def name(self) -> str:
        """The model, whether it is quantised, and whether an adapter is on it."""
        return self._loaded.name + (" + adapter" if self._adapter else "")

    @property
    def max_tokens(self) -> int | None:
        """Longest prompt and answer together, tokens."""
        return self._loaded.max_tokens

    def close(self) -> None:
        """Take the adapter off, leaving the base model as it was."""
        if self._peft is not None:
            unload_adapters(self._peft)
            self._peft = None
        self._writer.forget()

    def count_prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt, with the chat template."""
        return len(self._renderer.prompt_tokens(prompt.messages, prompt.tools))

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        """Prompts of like length together, longest first, so that a batch that is too large for the memory fails at once."""
        if not prompts:
            return ()
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        shared = shared_length(common_prefix_length(rows), len(rows))
        own_lengths = [len(row) - shared for row in rows]
        order = sorted(range(len(prompts)), key=lambda index: (-own_lengths[index], index))
        limits = self._limits
        max_tokens = max(1, limits.max_cache_bytes // key_value_bytes(self._model))
        groups = token_groups([own_lengths[index] for index in order], max_tokens=max_tokens, max_rows=limits.max_rows)
        return tuple(tuple(order[group.start : group.stop]) for group in groups)

    def require_adapter_active(self, prompts: Sequence[Prompt]) -> float:
        """Show on some prompts that the adapter changes the model's first token logits; the largest change, in logits.

        Raises:
            IntegrityError: It changes nothing.
            ConfigError: This engine has no adapter.
        """
        if self._peft is None:
            raise ConfigError("this engine answers with the base model; there is no adapter to check")
        tuned_BV = self._logits_after(prompts)
        with self._peft.disable_adapter():
            base_BV = self._logits_after(prompts)
        return require_active(base_BV, tuned_BV, what=f"the adapter {str(self._adapter)!r}")

    def require_as_trained(self, prompts: Sequence[Prompt]) -> float:
        """Show on some prompts that this engine says what the reference says, within rounding; the largest difference, nats.

        Raises:
            IntegrityError: It does not.
        """
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        noise = 0.0
        if self._peft is not None:
            with self._peft.disable_adapter():
                noise = self._difference(rows, [self._reference(row)[-1] for row in rows])
        most = bound(noise, self._model.dtype)
        what = f"the model {self.name!r}"
        written = [answer.tokens for answer in self._written(rows, GenerationOptions(max_new_tokens=NUM_TOKENS))]
        # One reference pass shows what should come after the prompt, and after each token that was written.
        references = [
            self._reference([*row, *tokens[:-1]])[-len(tokens) :] for row, tokens in zip(rows, written, strict=True)
        ]
        found = self._difference(rows, [reference_KV[0] for reference_KV in references])
        require_within(found, most, what=what)
        for tokens, reference_KV in zip(written, references, strict=True):
            require_within(shortfall(tokens, reference_KV), most, what=what)
        return found

    def _difference(self, rows: Sequence[Sequence[int]], references: Sequence[torch.Tensor]) -> float:
        """Of the first token's log-probabilities from those by the reference [V] each."""
        with torch.inference_mode():
            ours_BV = self._first_logits(rows)
        return difference(ours_BV, torch.stack([*references]))

    def _reference(self, row: Sequence[int]) -> torch.Tensor:
        """Logits [T, V] of the model's own forward, fp32, an adapter's layers being run as PEFT runs them."""
        with torch.inference_mode(), as_peft_computes(self._model):
            return own_logits(self._model, row)

    def require_other_than(self, base: LocalEngine, prompts: Sequence[Prompt]) -> float:
        """Show on some prompts that this engine's model is not the base model; the largest change of a first token logit.

        Raises:
            IntegrityError: Both say the same.
        """
        return require_active(base._logits_after(prompts), self._logits_after(prompts), what=f"the model {self.name!r}")

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        """Answers as the options say, kept inside the JSON form where one is asked for, without the space around them."""
        started = time.perf_counter()
        self._require_own_model()
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        answers = self._written(rows, options)
        seconds = (time.perf_counter() - started) / len(prompts)
        return tuple(
            Answer(
                example_id=prompt.example_id,
                text=answer.text.strip(),
                finish_reason=answer.finish_reason or FinishReason.LENGTH,
                usage=Usage(prompt_tokens=len(row), completion_tokens=len(answer.tokens), seconds=seconds),
                log_probs=None if options.num_top_log_probs is None else tuple(answer.log_probs),
            )
            for prompt, row, answer in zip(prompts, rows, answers, strict=True)
        )

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        """The greedy choice for each prompt, with the likelihood of all, from one pass over a tree of the choices."""
        started = time.perf_counter()
        self._require_own_model()
        tree = build_choice_tree([self._renderer.answer_tokens(choice) for choice in choices])
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        edges_BN = self._edges(rows, tree)
        seconds = (time.perf_counter() - started) / len(prompts)
        return chosen_answers(prompts, rows, choices, tree, edges_BN, seconds=seconds)

    def choose_each(self, prompts: Sequence[Prompt], choices_of_each: Sequence[Sequence[str]]) -> tuple[Answer, ...]:
        """As `choose`, with choices of its own for each prompt."""
        started = time.perf_counter()
        self._require_own_model()
        trees = [
            build_choice_tree([self._renderer.answer_tokens(one) for one in choices]) for choices in choices_of_each
        ]
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        edges = self._edges_of_each(rows, trees)
        seconds = (time.perf_counter() - started) / len(prompts)
        asked = zip(prompts, rows, choices_of_each, trees, edges, strict=True)
        return tuple(
            chosen_answers([prompt], [row], choices, tree, [edges_N], seconds=seconds)[0]
            for prompt, row, choices, tree, edges_N in asked
        )

    def _require_runnable(self) -> None:
        require_understood(self._model)

    def _logits_after(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        with torch.inference_mode():
            return self._first_logits(
                [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
            )

    def _first_logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits [B, V] of the first token after each row, fp32."""
        return self._writer.first_logits(rows)

    def _written(self, rows: Sequence[Sequence[int]], options: GenerationOptions) -> list[AnswerInWriting]:
        """The answers after each row, whole."""
        constrainer, ending = self._constrainers.of(options.form), self._ending_of(options)
        require_tokens(options, self._vocabulary_size)
        answers = [
            AnswerInWriting(limit, options, ending, constrainer=constrainer)
            for limit in answer_limits(rows, options.max_new_tokens, self.max_tokens)
        ]
        self._write([Row(row, answer) for row, answer in zip(rows, answers, strict=True)])
        if error := next((answer.error for answer in answers if answer.error), None):
            raise error
        return answers

    def _write(self, rows: Sequence[Row]) -> None:
        self._writer.write(rows)

    def _ending_of(self, options: GenerationOptions) -> Ending:
        return Ending(
            stop_token_ids=self._loaded.stop_token_ids,
            decode=partial(self._renderer.decode, shown_ids=options.shown_token_ids),
        )

    @property
    def _vocabulary_size(self) -> int:
        return int(self._model.config.get_text_config().vocab_size)

    def _edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> Sequence[torch.Tensor]:
        """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""
        return self._writer.edges(rows, tree)

    def _edges_of_each(self, rows: Sequence[Sequence[int]], trees: Sequence[ChoiceTree]) -> Sequence[torch.Tensor]:
        """The same with a tree of its own for each row."""
        return edges_of_each(self._model, rows, trees)

    def _require_own_model(self) -> None:
        if self._adapter is None:
            require_bare(self._model)
        else:
            require_in_place(self._model, self._adapter_layers, name=_ADAPTER_NAME)
