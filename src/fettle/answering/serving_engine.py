"""The interface of what answers on a server: a base model and its adapters, asked from any thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fettle.answering.engine import GenerationOptions
from fettle.answering.stream import AnswerStream
from fettle.records import Prompt

if TYPE_CHECKING:
    from fettle.chat.call_format import CallFormat
    from fettle.models.load import LoadedModel


class ServingEngine(Protocol):
    """Answers with a base model and any number of its adapters."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that may be asked for."""
        ...

    def add(self, name: str, folder: Path, prompts: Sequence[Prompt]) -> float:
        """Have an adapter, once it is shown on some prompts that it answers as it was trained; the largest difference, nats.

        Raises:
            FettleError: It does not, or cannot be had.
        """
        ...

    def remove(self, name: str) -> None:
        """Forget an adapter, once the answers that it is writing are whole.

        Raises:
            ModelError: There is none of this name.
        """
        ...

    def submit(
        self, prompt: Prompt, options: GenerationOptions, *, adapter: str | None = None, number: int = 0
    ) -> AnswerStream:
        """Ask for an answer; see `submit_several`."""
        ...

    def submit_several(
        self, prompt: Prompt, options: GenerationOptions, *, adapter: str | None = None, numbers: Sequence[int]
    ) -> tuple[AnswerStream, ...]:
        """Ask for some answers to one prompt.

        Args:
            prompt: The conversation up to the answer.
            options: How each is written.
            adapter: Who answers; None: the base model.
            numbers: Tell the answers apart, which are drawn with one seed.

        Raises:
            BusyError: Too many requests wait.
            ConfigError: The form cannot be kept, or a token is biased that the model has not.
            ModelError: There is no such adapter.
            DataError: The prompt leaves no room for an answer.
        """
        ...

    @property
    def is_idle(self) -> bool:
        """Nothing is being written, and nothing waits."""
        ...

    @property
    def num_waiting(self) -> int:
        """Answers that wait for their turn, where the engine knows."""
        ...

    @property
    def num_running(self) -> int:
        """Answers that are being written."""
        ...

    @property
    def num_adapters_in_memory(self) -> int:
        """Adapters that answer without being loaded first."""
        ...

    @property
    def loaded(self) -> LoadedModel:
        """The base model: for its tokenizer and template, not to be run."""
        ...

    @property
    def call_format(self) -> CallFormat | None:
        """How the model writes function calls; None: its template does not say."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for, which may be a part of a character."""
        ...

    def close(self) -> None:
        """Stop. Answers that are not whole end with an error."""
        ...
