"""The reference engine: the transformers model with the very weights that were trained.

Rows of a batch share their common prefix (computed once), are padded on the left, and leave the batch when they are finished.

Legend: B rows, P prefix tokens, L padded remainder, N tree nodes, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.answering.choices import ChoiceTree, build_choice_tree, choice_log_likelihoods, greedy_choice
from fettle.answering.constrain import JsonConstrainer, mask_logits, take_forced_tokens, take_token
from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.errors import ConfigError
from fettle.models.adapter import (
    adapter_layers,
    load_adapter,
    require_active,
    require_bare,
    require_in_place,
    unload_adapters,
)
from fettle.models.attention_window import attention_masks, sliding_window
from fettle.models.head import logits_of, require_head_understood
from fettle.models.load import LoadedModel
from fettle.models.shared_prefix import (
    cache_for_rows,
    common_prefix_length,
    pad_rows,
    prefix_key_values,
    shareable_prefix_length,
)
from fettle.records import Answer, FinishReason, Prompt, Usage

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher
    from transformers import DynamicCache

_PADDING_WORTH = 0.6
_ENOUGH_ROWS = 16
_ADAPTER_NAME = "tuned"
_COMPACT_BELOW = 0.75  # drop finished rows from the batch when fewer than this share are still being written


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How much is answered at once."""

    max_rows: int = 32
    max_tokens: int = 24_576
    """Rows times the longest prompt; bounds memory."""


class LocalEngine:
    """Answers with a base model, or with one adapter on it.

    Args:
        loaded: The base model.
        adapter: A PEFT folder; None answers with the base model alone.
        limits: How much is answered at once.

    The base model is shared, so each batch first shows that the model is the one this engine stands for: bare, or with this
    adapter and no other.

    Raises:
        IntegrityError: An adapter is on the base model already.
    """

    def __init__(self, loaded: LoadedModel, *, adapter: Path | None = None, limits: BatchLimits | None = None) -> None:
        self._loaded = loaded
        self._model = loaded.model
        self._renderer = loaded.renderer
        self._limits = limits or BatchLimits()
        self._adapter = adapter
        self._constrainers: dict[JsonForm, JsonConstrainer] = {}
        require_bare(self._model)
        require_head_understood(self._model)
        self._peft = load_adapter(loaded, adapter, name=_ADAPTER_NAME) if adapter else None
        self._adapter_layers = adapter_layers(self._model)

    @property
    def name(self) -> str:
        """The model, and whether an adapter is on it."""
        return self._loaded.source.public_id + (" + adapter" if self._adapter else "")

    @property
    def max_tokens(self) -> int | None:
        """Longest prompt and answer together, tokens."""
        return self._loaded.max_tokens

    def close(self) -> None:
        """Take the adapter off, leaving the base model as it was."""
        if self._peft is not None:
            unload_adapters(self._peft)
            self._peft = None

    def count_prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt, with the chat template."""
        return len(self._renderer.prompt_tokens(prompt.messages, prompt.tools))

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        """Prompts of like length together, longest first, so that a batch that is too large for the memory fails at once."""
        if not prompts:
            return ()
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        shared = common_prefix_length(rows) if len(rows) > 1 else 0
        own_lengths = [len(row) - shared for row in rows]
        batches: list[list[int]] = []
        for index in sorted(range(len(prompts)), key=lambda index: (-own_lengths[index], index)):
            length = own_lengths[index]
            longest = own_lengths[batches[-1][0]] if batches else length
            is_full = bool(batches) and (
                len(batches[-1]) >= self._limits.max_rows
                or (longest + shared) * (len(batches[-1]) + 1) > self._limits.max_tokens
                # Much shorter rows would be mostly padding; but small batches waste more than padding does.
                or (length < _PADDING_WORTH * longest and len(batches[-1]) >= _ENOUGH_ROWS)
            )
            if not batches or is_full:
                batches.append([])
            batches[-1].append(index)
        return tuple(tuple(batch) for batch in batches)

    def require_adapter_active(self, prompts: Sequence[Prompt]) -> float:
        """Show on some prompts that the adapter changes the model's first token logits; the largest change, in logits.

        Raises:
            IntegrityError: It changes nothing.
            ConfigError: This engine has no adapter.
        """
        import torch

        if self._peft is None:
            raise ConfigError("this engine answers with the base model; there is no adapter to check")
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        with torch.inference_mode():
            _, tuned_BV = self._prefill(rows, 1)
            with self._peft.disable_adapter():
                _, base_BV = self._prefill(rows, 1)
        return require_active(base_BV, tuned_BV, adapter=str(self._adapter))

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        """Greedy answers, kept inside the JSON form where one is asked for."""
        import torch

        started = time.perf_counter()
        self._require_own_model()
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        with torch.inference_mode():
            written = self._write(rows, options)
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
        import torch

        started = time.perf_counter()
        self._require_own_model()
        tree = build_choice_tree([self._renderer.answer_tokens(choice) for choice in choices])
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
        with torch.inference_mode():
            edges_BN = self._edge_log_probs(rows, tree)
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

    def _require_own_model(self) -> None:
        if self._adapter is None:
            require_bare(self._model)
        else:
            require_in_place(self._model, self._adapter_layers, name=_ADAPTER_NAME)

    def _prefill(self, rows: Sequence[Sequence[int]], num_new_tokens: int) -> tuple[_Filled, torch.Tensor]:
        """Run the prompts; the state to go on from, and the logits [B, V] of the next token, fp32."""
        length = shareable_prefix_length(self._model, rows, num_new_tokens)
        prefix = prefix_key_values(self._model, rows[0][:length]) if length else None
        padded = pad_rows([row[length:] for row in rows], prefix_length=length, left=True, pad_id=0)
        device = self._model.device
        cache = cache_for_rows(prefix, len(rows))
        hidden_BLH = self._model.base_model(
            input_ids=padded.ids_BL.to(device),
            attention_mask=padded.mask_BT.to(device),
            position_ids=padded.positions_BL.to(device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits_BV = logits_of(self._model, hidden_BLH[:, -1]).float()
        return _Filled(cache, padded.mask_BT.to(device), [len(row) for row in rows]), logits_BV

    def _write(self, rows: Sequence[Sequence[int]], options: GenerationOptions) -> list[list[int]]:
        """Greedy tokens of every row, the end of turn included where it was reached."""
        import torch

        state, logits_BV = self._prefill(rows, options.max_new_tokens)
        matchers, stops = self._matchers(options.json_form, len(rows)), self._loaded.stop_token_ids
        may_force = bool(matchers) and not self._may_leave_window(rows, options.max_new_tokens)
        written: list[list[int]] = [[] for _ in rows]
        active = list(range(len(rows)))  # the rows still in the batch, by their number in `rows`
        is_open = [True] * len(rows)
        while True:
            if matchers:
                logits_BV = mask_logits([matchers[row] for row in active], logits_BV)
            new: list[list[int]] = []  # per active row, what it goes on with
            for row, token in zip(active, logits_BV.argmax(dim=-1).tolist(), strict=True):
                tokens = [token]
                if is_open[row]:
                    if matchers and token not in stops:
                        take_token(matchers[row], token)
                        tokens += take_forced_tokens(matchers[row]) if may_force else []
                    tokens = tokens[: options.max_new_tokens - len(written[row])]
                    written[row] += tokens
                    is_open[row] = len(written[row]) < options.max_new_tokens and token not in stops
                new.append(tokens)
            open_now = [index for index, row in enumerate(active) if is_open[row]]
            if not open_now:
                return written
            if len(open_now) < _COMPACT_BELOW * len(active):
                state = state.select(torch.tensor(open_now, device=self._model.device))
                new, active = [new[index] for index in open_now], [active[index] for index in open_now]
            state, logits_BV = self._step(state, new)

    def _step(self, state: _Filled, new: Sequence[Sequence[int]]) -> tuple[_Filled, torch.Tensor]:
        """Run one or more new tokens per row, fewer ones padded on the left; logits [B, V] after the last."""
        import torch

        device = self._model.device
        padded = pad_rows(new, prefix_length=0, left=True, pad_id=0)
        mask_BT = torch.cat([state.mask_BT, padded.mask_BT.to(device)], dim=1)
        lengths_B1 = torch.tensor(state.lengths, device=device)[:, None]
        hidden_BKH = self._model.base_model(
            input_ids=padded.ids_BL.to(device),
            attention_mask=mask_BT,
            position_ids=padded.positions_BL.to(device) + lengths_B1,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state
        logits_BV = logits_of(self._model, hidden_BKH[:, -1]).float()
        lengths = [length + len(tokens) for length, tokens in zip(state.lengths, new, strict=True)]
        return _Filled(state.cache, mask_BT, lengths), logits_BV

    def _edge_log_probs(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> torch.Tensor:
        """Log-probability of every node's token given its parent [B, N + 1], fp32; entry 0 is unused."""
        import torch

        inner = tree.inner_nodes
        state, logits_BV = self._prefill(rows, max(tree.depths))
        edges_BN = torch.zeros(len(rows), len(tree.token_ids), device=logits_BV.device)

        def fill(node: int, log_probs_BV: torch.Tensor) -> None:
            below = list(tree.children[node])
            edges_BN[:, below] = log_probs_BV[:, [tree.token_ids[child] for child in below]]

        fill(0, logits_BV.log_softmax(-1))
        if inner:
            hidden_BNH = self._run_nodes(state, tree, inner)
            for place, node in enumerate(inner):
                fill(node, logits_of(self._model, hidden_BNH[:, place]).float().log_softmax(-1))
        return edges_BN.cpu()

    def _run_nodes(self, state: _Filled, tree: ChoiceTree, inner: Sequence[int]) -> torch.Tensor:
        """Hidden states of the tree's inner nodes [B, N, H]: each sees its prompt, its ancestors and itself."""
        import torch

        device, num_rows = self._model.device, len(state.lengths)
        place_of = {node: place for place, node in enumerate(inner)}
        sees_NN = torch.zeros(len(inner), len(inner), dtype=torch.bool)
        for place, start in enumerate(inner):
            node = start
            while node:
                sees_NN[place, place_of[node]] = True
                node = tree.parents[node]
        sees_BNT = torch.cat(
            [
                state.mask_BT.bool()[:, None].expand(-1, len(inner), -1),
                sees_NN.to(device).expand(num_rows, -1, -1),
            ],
            dim=-1,
        )
        ids_N = torch.tensor([tree.token_ids[node] for node in inner], device=device)
        depths_N = torch.tensor([tree.depths[node] - 1 for node in inner], device=device)
        positions_BN = torch.tensor(state.lengths, device=device)[:, None] + depths_N[None]
        return self._model.base_model(
            input_ids=ids_N.expand(num_rows, -1),
            attention_mask=attention_masks(
                self._model,
                sees_BNT,
                query_positions_BN=positions_BN,
                key_positions_BT=torch.cat([state.mask_BT.cumsum(-1) - 1, positions_BN], dim=-1),
            ),
            position_ids=positions_BN,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state

    def _may_leave_window(self, rows: Sequence[Sequence[int]], num_new_tokens: int) -> bool:
        """True where padding between the tokens of a row, which forcing brings, could push some out of a sliding window."""
        window = sliding_window(self._model)
        return window is not None and max(len(row) for row in rows) + num_new_tokens * len(rows) >= window

    def _matchers(self, form: JsonForm | None, num_rows: int) -> list[LLMatcher]:
        if form is None:
            return []
        if form not in self._constrainers:
            self._constrainers[form] = JsonConstrainer(
                self._renderer.tokenizer,
                form,
                end_of_turn_id=self._renderer.end_of_turn_id,
                vocabulary_size=int(self._model.config.get_text_config().vocab_size),
            )
        return [self._constrainers[form].new_matcher() for _ in range(num_rows)]


@dataclass(frozen=True, slots=True)
class _Filled:
    """A batch whose prompts have been run."""

    cache: DynamicCache
    mask_BT: torch.Tensor
    lengths: list[int]
    """Tokens of each row so far, padding excluded: the position of its next token."""

    def select(self, keep: torch.Tensor) -> _Filled:
        """The batch with some rows only."""
        self.cache.batch_select_indices(keep)
        return _Filled(self.cache, self.mask_BT[keep], [self.lengths[index] for index in keep.tolist()])
