"""The reference engine: the transformers model with the very weights that were trained.

Rows of a batch share their common prefix, which is computed and kept once, and leave the batch when they are finished.

Legend: B rows, T tokens of all rows, N tree nodes, E hidden size, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fettle.answering.choices import ChoiceTree, build_choice_tree, choice_log_likelihoods, greedy_choice
from fettle.answering.constrain import JsonConstrainer, mask_logits, take_forced_tokens, take_token
from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engines.row_threads import GoOn, in_shares
from fettle.answering.start_up_check import NUM_TOKENS, bound, difference, require_within, shortfall
from fettle.errors import ConfigError, DataError
from fettle.models.adapter import (
    adapter_layers,
    load_adapter,
    require_active,
    require_bare,
    require_in_place,
    unload_adapters,
)
from fettle.models.head import CHUNK_ROWS, logits_of
from fettle.models.load import LoadedModel, require_form
from fettle.models.lora_linear import as_peft_computes
from fettle.models.own_attention import KeyValues, PackedAttention, own_attention, run
from fettle.models.packing import Prefix, pack_rows
from fettle.models.row_cache import RowCache, branched, continued, key_value_bytes
from fettle.models.shared_prefix import common_prefix_length, num_heads, prefix_key_values, shared_length
from fettle.models.token_groups import token_groups
from fettle.models.understood import own_logits, require_understood
from fettle.records import Answer, FinishReason, Prompt, Usage

if TYPE_CHECKING:
    from llguidance import LLMatcher

_ADAPTER_NAME = "tuned"
_PREFILL_TOKENS = 4096
"""Tokens run at once: with more of them, what lies between two layers leaves the processor's cache."""
_COMPACT_BELOW = 0.75  # drop finished rows from the batch when fewer than this share are still being written


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How much is answered at once."""

    max_rows: int = 96
    max_cache_bytes: int = 1 << 30
    """Of the keys and values of all prompts, what they share not counted."""


@dataclass(frozen=True, slots=True)
class _SharedPrefix:
    """What all prompts of a batch begin with."""

    token_ids: tuple[int, ...]
    key_values: KeyValues | None
    """None for no tokens."""


_NOTHING_SHARED = _SharedPrefix((), None)


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
        self._constrainers: dict[JsonForm, JsonConstrainer] = {}
        self._last_prefix = _NOTHING_SHARED
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
        self._last_prefix = _NOTHING_SHARED

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
                noise = self._difference(rows)
        most = bound(noise, self._model.dtype)
        what = f"the model {self.name!r}"
        found = self._difference(rows)
        require_within(found, most, what=what)
        for row, tokens in zip(rows, self._written(rows, NUM_TOKENS, None), strict=True):
            require_within(shortfall(tokens, self._reference([*row, *tokens[:-1]])[-len(tokens) :]), most, what=what)
        return found

    def _difference(self, rows: Sequence[Sequence[int]]) -> float:
        with torch.inference_mode():
            ours_BV = self._first_logits(rows)
        return difference(ours_BV, torch.stack([self._reference(row)[-1] for row in rows]))

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
        """Greedy answers, kept inside the JSON form where one is asked for."""
        started = time.perf_counter()
        self._require_own_model()
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        written = self._written(rows, options.max_new_tokens, self._constrainer(options.json_form))
        seconds = (time.perf_counter() - started) / len(prompts)
        stops = self._loaded.stop_token_ids
        return tuple(
            Answer(
                example_id=prompt.example_id,
                text=self._renderer.decode(tokens[:-1] if tokens[-1] in stops else tokens).strip(),
                finish_reason=FinishReason.STOP if tokens[-1] in stops else FinishReason.LENGTH,
                usage=Usage(prompt_tokens=len(row), completion_tokens=len(tokens), seconds=seconds),
            )
            for prompt, row, tokens in zip(prompts, rows, written, strict=True)
        )

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        """The greedy choice for each prompt, with the likelihood of all, from one pass over a tree of the choices."""
        started = time.perf_counter()
        self._require_own_model()
        tree = build_choice_tree([self._renderer.answer_tokens(choice) for choice in choices])
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        edges_BN = self._edges(rows, tree)
        seconds = (time.perf_counter() - started) / len(prompts)
        answers = []
        for prompt, row, edges_N in zip(prompts, rows, edges_BN, strict=True):
            chosen = greedy_choice(tree, edges_N)
            usage = Usage(prompt_tokens=len(row), completion_tokens=len(tree.paths[chosen]), seconds=seconds)
            likelihoods = dict(zip(choices, choice_log_likelihoods(tree, edges_N), strict=True))
            answers.append(
                Answer(
                    example_id=prompt.example_id,
                    text=choices[chosen],
                    finish_reason=FinishReason.STOP,
                    usage=usage,
                    choice_log_likelihoods=likelihoods,
                )
            )
        return tuple(answers)

    def _require_runnable(self) -> None:
        require_understood(self._model)

    def _logits_after(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        with torch.inference_mode():
            return self._first_logits(
                [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
            )

    def _first_logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits [B, V] of the first token after each row, fp32."""
        with own_attention(self._model):
            return self._prefill(rows, _NOTHING_SHARED, lambda: None)[1]

    def _written(
        self, rows: Sequence[Sequence[int]], max_new_tokens: int, constrainer: JsonConstrainer | None
    ) -> list[list[int]]:
        """Greedy tokens after each row, the end of turn included where it was reached."""

        def write(share: Sequence[Sequence[int]], go_on: GoOn) -> list[list[int]]:
            matchers = [constrainer.new_matcher() for _ in share] if constrainer else []
            return self._write(share, prefix, matchers, max_new_tokens, go_on)

        with own_attention(self._model):
            prefix = self._prefix_of(rows)
            return in_shares(write, rows, device=self._model.device)

    def _edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> Sequence[torch.Tensor]:
        """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""

        def walk(share: Sequence[Sequence[int]], go_on: GoOn) -> tuple[torch.Tensor, ...]:
            return self._edge_log_probs(share, prefix, tree, go_on)

        with own_attention(self._model):
            prefix = self._prefix_of(rows)
            return in_shares(walk, rows, device=self._model.device)

    def _require_own_model(self) -> None:
        if self._adapter is None:
            require_bare(self._model)
        else:
            require_in_place(self._model, self._adapter_layers, name=_ADAPTER_NAME)

    def _prefix_of(self, rows: Sequence[Sequence[int]]) -> _SharedPrefix:
        """What all rows begin with, computed at most once for batches that follow each other.

        How long it is depends on the rows alone, so the answers do not depend on what was asked before.
        """
        length = shared_length(common_prefix_length(rows), len(rows))
        token_ids = tuple(rows[0][:length])
        if token_ids != self._last_prefix.token_ids:
            with torch.inference_mode():
                self._last_prefix = _SharedPrefix(token_ids, prefix_key_values(self._model, token_ids))
        return self._last_prefix

    def _prefill(
        self, rows: Sequence[Sequence[int]], prefix: _SharedPrefix, go_on: GoOn
    ) -> tuple[RowCache, torch.Tensor]:
        """Run the prompts after their prefix; what to go on from, and the logits [B, V] of the next token, fp32."""
        model, length = self._model, len(prefix.token_ids)
        own = [row[length:] for row in rows]
        cache = RowCache(prefix.key_values, lengths=[len(row) for row in own])
        last_states: list[torch.Tensor] = []
        for part in token_groups(cache.lengths, max_tokens=_PREFILL_TOKENS):
            go_on()
            rows_of_part = own[part.start : part.stop]
            after = Prefix.of_length(length)
            packed = pack_rows(rows_of_part, after=after, num_heads=num_heads(model), device=model.device)
            on_keys = partial(cache.fill, packed=packed, first_row=part.start)
            hidden_TE = run(
                model, packed.ids_1T, packed.positions_1T, PackedAttention(packed, prefix.key_values, on_keys)
            )
            last_states.append(hidden_TE[list(packed.ends)])
        return cache, logits_of(model, torch.cat(last_states)).float()

    def _write(
        self,
        rows: Sequence[Sequence[int]],
        prefix: _SharedPrefix,
        matchers: Sequence[LLMatcher],
        max_new_tokens: int,
        go_on: GoOn,
    ) -> list[list[int]]:
        """Greedy tokens of every row, the end of turn included where it was reached; no matchers: they are free.

        No row grows past what the model takes.
        """
        limits = self._limits_of(rows, max_new_tokens)
        cache, logits_BV = self._prefill(rows, prefix, go_on)
        stops = self._loaded.stop_token_ids
        written: list[list[int]] = [[] for _ in rows]
        active = list(range(len(rows)))  # the rows still in the batch, by their number in `rows`
        is_open = [True] * len(rows)
        while True:
            go_on()
            if matchers:
                logits_BV = mask_logits([matchers[row] for row in active], logits_BV)
            new: list[list[int]] = []  # per active row, what it goes on with
            for row, token in zip(active, logits_BV.argmax(dim=-1).tolist(), strict=True):
                tokens = [token]
                if is_open[row]:
                    if matchers and token not in stops:
                        take_token(matchers[row], token)
                        tokens += take_forced_tokens(matchers[row])
                    tokens = tokens[: limits[row] - len(written[row])]
                    written[row] += tokens
                    is_open[row] = len(written[row]) < limits[row] and token not in stops
                new.append(tokens)
            open_now = [index for index, row in enumerate(active) if is_open[row]]
            if not open_now:
                return written
            if len(open_now) < _COMPACT_BELOW * len(active):
                cache.select(open_now)
                new, active = [new[index] for index in open_now], [active[index] for index in open_now]
            logits_BV = self._step(cache, new)

    def _limits_of(self, rows: Sequence[Sequence[int]], max_new_tokens: int) -> list[int]:
        """How many tokens each row may grow by.

        Raises:
            DataError: A row leaves no room for any.
        """
        limits = [min(max_new_tokens, self._loaded.max_tokens - len(row)) for row in rows]
        if min(limits) < 1:
            raise DataError(
                f"a prompt of {max(map(len, rows)):,} tokens leaves no room for an answer: the model takes "
                f"{self._loaded.max_tokens:,}",
                remedy="shorten the message, or name a model with a longer context",
            )
        return limits

    def _step(self, cache: RowCache, new: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run one or more new tokens per row; logits [B, V] after the last of each."""
        attention = continued(cache, new)
        ids_1T = torch.tensor([token for tokens in new for token in tokens], device=self._model.device)[None]
        hidden_TE = run(self._model, ids_1T, attention.positions_1T, attention)
        ends = list(accumulate(len(tokens) for tokens in new))
        return logits_of(self._model, hidden_TE[[end - 1 for end in ends]]).float()

    def _edge_log_probs(
        self, rows: Sequence[Sequence[int]], prefix: _SharedPrefix, tree: ChoiceTree, go_on: GoOn
    ) -> tuple[torch.Tensor, ...]:
        """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""
        to_run = tree.nodes_to_run
        cache, logits_BV = self._prefill(rows, prefix, go_on)
        edges_BN = torch.zeros(len(rows), len(tree.token_ids), device=logits_BV.device)

        def fill(node: int, logits_BV: torch.Tensor) -> None:
            below = list(tree.children[node])
            children_BC = logits_BV[:, [tree.token_ids[child] for child in below]]
            edges_BN[:, below] = children_BC - logits_BV.logsumexp(-1, keepdim=True)

        fill(0, logits_BV)
        if to_run:
            hidden_NBE = self._run_nodes(cache, tree, to_run)
            at_once = max(1, CHUNK_ROWS // len(rows))
            for first in range(0, len(to_run), at_once):
                go_on()
                nodes = to_run[first : first + at_once]
                # The head gets a matrix: with three dimensions that lie apart its weights are copied for every row.
                logits_TV = logits_of(self._model, hidden_NBE[first : first + at_once].flatten(0, 1)).float()
                for node, logits_BV in zip(nodes, logits_TV.split(len(rows)), strict=True):
                    fill(node, logits_BV)
        return edges_BN.cpu().unbind()

    def _run_nodes(self, cache: RowCache, tree: ChoiceTree, nodes: Sequence[int]) -> torch.Tensor:
        """Hidden states of some of the tree's nodes [N, B, E]: each sees its prompt, its ancestors and itself."""
        place_of = {node: place for place, node in enumerate(nodes)}
        parents = [place_of.get(tree.parents[node]) for node in nodes]
        attention = branched(cache, parents, [tree.depths[node] - 1 for node in nodes])
        num_rows = len(cache.lengths)
        ids_N = torch.tensor([tree.token_ids[node] for node in nodes], device=self._model.device)
        hidden_TE = run(self._model, ids_N.repeat(num_rows)[None], attention.positions_1T, attention)
        return hidden_TE.view(num_rows, len(nodes), -1).transpose(0, 1).contiguous()

    def _constrainer(self, form: JsonForm | None) -> JsonConstrainer | None:
        if form is None:
            return None
        if form not in self._constrainers:
            self._constrainers[form] = JsonConstrainer(
                self._renderer.tokenizer,
                form,
                end_of_turn_id=self._renderer.end_of_turn_id,
                vocabulary_size=int(self._model.config.get_text_config().vocab_size),
            )
        return self._constrainers[form]
