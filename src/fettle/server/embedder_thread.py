"""The embedder in a thread of its own: loaded at the first request, and asked by one request after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fettle.errors import BusyError, ContextLengthError
from fettle.retrieval.embedder import MiniLMEmbedder

_MOST_WAITING = 64


@dataclass(frozen=True, slots=True)
class Embedded:
    """What has become of some texts."""

    vectors_ND: NDArray[np.float32]
    num_tokens: int
    """Of all texts, with the two around each."""


class EmbedderThread:
    """Embeds for whoever asks."""

    def __init__(self) -> None:
        self._embedder = MiniLMEmbedder()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fettle embeds")
        self._num_waiting = 0  # changed in the event loop alone

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> Embedded:
        """The vectors of some texts, or of some lists of tokens.

        Raises:
            BusyError: Too many requests wait already.
            ContextLengthError: A text is longer than the model reads.
            ConfigError: A token is none of the model's.
            ModelError: The model is not installed, or is not the published one.
        """
        if self._num_waiting >= _MOST_WAITING:
            raise BusyError(f"{_MOST_WAITING} requests wait for embeddings", remedy="try again in a few seconds")
        self._num_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._embed, inputs)
        finally:
            self._num_waiting -= 1

    def close(self) -> None:
        """End the thread once it has answered."""
        self._executor.shutdown(cancel_futures=True)

    def _embed(self, inputs: Sequence[str | Sequence[int]]) -> Embedded:
        texts = [text if isinstance(text, str) else self._embedder.text_of(text) for text in inputs]
        lengths, most = self._embedder.count_tokens(texts), self._embedder.max_tokens
        if (longest := max(lengths)) > most:
            raise ContextLengthError(
                f"input {lengths.index(longest)} has {longest:,} tokens, and {self._embedder.name} reads at most {most}",
                remedy="cut the text into shorter passages",
            )
        return Embedded(self._embedder.embed(texts), num_tokens=sum(lengths))
