"""llama.cpp as an engine: a GGUF file, through the C interface of llama-cpp-python.

Rows are sequences of one cache. What they begin with in common lies in it once, and so do the nodes of a tree of choices.

Legend: B rows, N tree nodes, V vocabulary.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fettle.answering.choices import ChoiceTree
from fettle.answering.engines.greedy import GoesOn
from fettle.answering.engines.logits_engine import LogitsEngine, fill_edges
from fettle.errors import ConfigError, ModelError, ResourceError
from fettle.models.load import LoadedModel
from fettle.models.shared_prefix import common_prefix_length, shared_length
from fettle.settings import get_settings

_BATCH_TOKENS = 512
"""Tokens that llama.cpp runs at once."""
_MOST_SEQUENCES = 200
"""Paths of a tree of choices at once; llama.cpp tells up to 256 sequences apart."""
_CELLS_STEP = 256  # the cache is made in multiples of it


@dataclass(frozen=True, slots=True)
class _Token:
    """One token to run."""

    token: int
    position: int
    sequences: tuple[int, ...]
    """Those that it is part of."""
    is_asked: bool
    """Whether what comes after it is wanted."""


class LlamaCppEngine(LogitsEngine):
    """Answers with a GGUF file.

    Args:
        loaded: Says how prompts become tokens and which tokens end an answer; its weights are not used.
        file: The GGUF file.
        name: What the weights are called in a report.

    Raises:
        ConfigError: llama-cpp-python is not installed.
        ModelError: llama.cpp cannot read the file.
    """

    def __init__(self, loaded: LoadedModel, file: Path, *, name: str, max_rows: int = 32) -> None:
        self._lib = import_llama_cpp()
        super().__init__(loaded, name=f"{name} by llama.cpp ({self._lib.__version__})", max_rows=max_rows)
        lib = self._lib.llama_cpp
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = 0
        with _quiet(self._lib):
            self._model = lib.llama_model_load_from_file(str(file).encode(), parameters)
        if not self._model:
            raise ModelError(
                "llama.cpp cannot read this GGUF file", where=str(file), remedy="leave --answer-with out; report this"
            )
        self._num_words = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model)))

    def close(self) -> None:
        """Free the weights."""
        if self._model:
            self._lib.llama_cpp.llama_model_free(self._model)
            self._model = None

    @property
    def num_words(self) -> int:
        """Width of the logits."""
        return self._num_words

    def edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> list[torch.Tensor]:
        """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""
        edges = [torch.zeros(len(tree.token_ids)) for _ in rows]
        shared = _shared(rows)
        paths = tree.paths_to_run()
        for first in range(0, len(paths), _MOST_SEQUENCES):
            group = paths[first : first + _MOST_SEQUENCES]
            num_cells = max(map(len, rows)) + len({node for path in group for node in path})
            with self._context(num_cells, len(group)) as cache:
                cache.start(rows[0][:shared], len(group))
                for row, edges_N in zip(rows, edges, strict=True):
                    cache.branch(row, tree, group, edges_N)
        return edges

    @contextmanager
    def sequences(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> Iterator[_Rows]:
        """A cache with room for these rows."""
        shared = _shared(rows)
        own = sum(len(row) - shared + limit for row, limit in zip(rows, limits, strict=True))
        with self._context(shared + own, len(rows)) as cache:
            yield _Rows(cache, rows)

    @contextmanager
    def _context(self, num_cells: int, num_sequences: int) -> Iterator[_Cache]:
        """A cache for so many tokens, which is gone afterwards.

        Raises:
            ConfigError: The engine is closed.
            ResourceError: There is no memory for it.
        """
        if not self._model:
            raise ConfigError("this engine was closed", remedy="make a new one")
        lib = self._lib.llama_cpp
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = -(-num_cells // _CELLS_STEP) * _CELLS_STEP
        parameters.n_batch = parameters.n_ubatch = _BATCH_TOKENS
        parameters.n_seq_max = num_sequences
        parameters.kv_unified = True
        parameters.n_threads = parameters.n_threads_batch = get_settings().threads or torch.get_num_threads()
        parameters.type_k = parameters.type_v = lib.GGML_TYPE_F32
        parameters.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.no_perf = True
        with _quiet(self._lib):
            context = lib.llama_init_from_model(self._model, parameters)
        if not context:
            raise ResourceError(
                f"llama.cpp has no memory for a cache of {num_cells:,} tokens", remedy="leave --answer-with out"
            )
        batch = lib.llama_batch_init(_BATCH_TOKENS, 0, num_sequences)
        try:
            yield _Cache(lib, context, batch, self._num_words)
        finally:
            with _quiet(self._lib):
                lib.llama_batch_free(batch)
                lib.llama_free(context)


class _Cache:
    """What has been run so far, of sequences that may share their beginning."""

    def __init__(self, lib: Any, context: Any, batch: Any, num_words: int) -> None:
        self._lib, self._context, self._batch, self._num_words = lib, context, batch, num_words
        self._every: tuple[int, ...] = ()
        self._shared = 0

    def start(self, token_ids: Sequence[int], num_sequences: int) -> None:
        """Run what all sequences begin with; it may be nothing."""
        self._every = tuple(range(num_sequences))
        self._shared = len(token_ids)
        self.run([_Token(token, place, self._every, is_asked=False) for place, token in enumerate(token_ids)])

    def branch(
        self, row: Sequence[int], tree: ChoiceTree, paths: Sequence[Sequence[int]], edges_N: torch.Tensor
    ) -> None:
        """Put in the log-probabilities of all that comes after a prompt and after each node of some paths, and forget them."""
        within: dict[int, list[int]] = {}
        for number, path in enumerate(paths):
            for node in path:
                within.setdefault(node, []).append(number)
        tokens = self.own_tokens(row, self._every)
        tokens += [
            _Token(tree.token_ids[node], len(row) + tree.depths[node] - 1, tuple(numbers), is_asked=True)
            for node, numbers in within.items()
        ]
        for node, logits_V in zip([0, *within], self.run(tokens), strict=True):
            fill_edges(edges_N, tree, node, logits_V)
        self._lib.llama_memory_seq_rm(self._lib.llama_get_memory(self._context), -1, self._shared, -1)

    def own_tokens(self, row: Sequence[int], sequences: tuple[int, ...]) -> list[_Token]:
        """What of a prompt comes after the shared beginning."""
        last = len(row) - 1
        return [_Token(row[place], place, sequences, is_asked=place == last) for place in range(self._shared, len(row))]

    def run(self, tokens: Sequence[_Token]) -> torch.Tensor:
        """Run tokens; the logits after those that are asked, in order."""
        found: list[torch.Tensor] = []
        for first in range(0, len(tokens), _BATCH_TOKENS):
            part = tokens[first : first + _BATCH_TOKENS]
            batch = self._batch
            batch.n_tokens = len(part)
            for place, one in enumerate(part):
                batch.token[place] = one.token
                batch.pos[place] = one.position
                batch.n_seq_id[place] = len(one.sequences)
                for number, sequence in enumerate(one.sequences):
                    batch.seq_id[place][number] = sequence
                batch.logits[place] = one.is_asked
            if code := self._lib.llama_decode(self._context, batch):
                raise ResourceError(
                    f"llama.cpp could not run {len(part)} tokens (code {code})", remedy="leave --answer-with out"
                )
            found += [self._logits(place) for place, one in enumerate(part) if one.is_asked]
        return torch.stack(found) if found else torch.empty(0, self._num_words)

    def _logits(self, place: int) -> torch.Tensor:
        pointer = self._lib.llama_get_logits_ith(self._context, place)
        return torch.from_numpy(np.ctypeslib.as_array(pointer, shape=(self._num_words,)).copy())


class _Rows:
    """Some rows as sequences 0, 1, ... of a cache."""

    def __init__(self, cache: _Cache, rows: Sequence[Sequence[int]]) -> None:
        self._cache, self._rows = cache, rows
        self._lengths = [len(row) for row in rows]

    def prefill(self) -> torch.Tensor:
        """Run the prompts, what they begin with once; the logits [B, V] of what follows each, fp32."""
        rows = self._rows
        self._cache.start(rows[0][: _shared(rows)], len(rows))
        return self._cache.run(
            [token for number, row in enumerate(rows) for token in self._cache.own_tokens(row, (number,))]
        )

    def go_on(self, new: Sequence[GoesOn]) -> torch.Tensor:
        """Run new tokens of some rows; the logits [B, V] after the last of each."""
        tokens = []
        for one in new:
            start = self._lengths[one.row]
            self._lengths[one.row] += len(one.tokens)
            last = len(one.tokens) - 1
            tokens += [
                _Token(token, start + place, (one.row,), is_asked=place == last)
                for place, token in enumerate(one.tokens)
            ]
        return self._cache.run(tokens)


def import_llama_cpp() -> Any:
    """The module of llama-cpp-python.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module("llama_cpp")
    except (ImportError, RuntimeError, OSError) as error:  # a library that does not load is a RuntimeError there
        raise ConfigError(
            f"llama-cpp-python is not installed here, or does not load ({str(error).splitlines()[0]})",
            where="--answer-with llamacpp",
            remedy="pip install 'fettle-llm[llamacpp]', which builds it for some minutes; or leave --answer-with out",
        ) from error


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """Tokens that all rows begin with and that are run once."""
    return shared_length(common_prefix_length(rows), len(rows))


@contextmanager
def _quiet(module: Any) -> Iterator[None]:
    """Keep what llama.cpp says while it loads off the terminal."""
    with module._utils.suppress_stdout_stderr(disable=False):
        yield
