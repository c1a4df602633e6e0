"""What answers on a server: a base model and its adapters, asked from any thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cached_property, lru_cache
from pathlib import Path

from fettle.answering.choices import ChoiceTree, build_choice_tree
from fettle.answering.constrain import Constrainers
from fettle.answering.engine import GenerationOptions, answer_limits, require_tokens
from fettle.answering.stream import AnswerStream
from fettle.chat.answer_space import answer_space
from fettle.chat.call_format import CallFormat, call_format
from fettle.errors import ConfigError, ContextLengthError, ModelError
from fettle.models.load import LoadedModel
from fettle.records import Answer, Prompt

_TREES = 32
"""Sets of choices whose trees are kept."""


class ServingEngine(ABC):
    """Answers with a base model and any number of its adapters.

    Args:
        loaded: The base model; its weights may be somewhere else.
        max_tokens: Of a prompt and its answer together.
    """

    def __init__(self, loaded: LoadedModel, *, max_tokens: int) -> None:
        self._loaded, self._renderer, self._max_tokens = loaded, loaded.renderer, max_tokens
        self._space = answer_space(loaded.renderer)
        self._folders: dict[str, Path] = {}
        self._vocabulary_size = int(loaded.model.config.get_text_config().vocab_size)
        self._constrainers = Constrainers(
            loaded.renderer.tokenizer,
            end_of_turn_id=loaded.renderer.end_of_turn_id,
            vocabulary_size=self._vocabulary_size,
        )
        self._tree_of = lru_cache(maxsize=_TREES)(self._build_tree)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that may be asked for."""
        return tuple(self._folders)

    @property
    def loaded(self) -> LoadedModel:
        """The base model: for its tokenizer and template, not to be run."""
        return self._loaded

    @property
    def max_tokens(self) -> int:
        """Of a prompt and its answer together."""
        return self._max_tokens

    @property
    def call_format(self) -> CallFormat | None:
        """How the model writes function calls; None: its template does not say."""
        return self._call_format

    @cached_property
    def _call_format(self) -> CallFormat | None:
        return call_format(self._renderer)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for, which may be a part of a character."""
        return self._constrainers.tokenizer.decode_bytes([token_id])

    def submit(
        self, prompt: Prompt, options: GenerationOptions, *, adapter: str | None = None, number: int = 0
    ) -> AnswerStream:
        """Ask for an answer; see `submit_several`."""
        [stream] = self.submit_several(prompt, options, adapter=adapter, numbers=[number])
        return stream

    def choose(self, prompt: Prompt, choices: Sequence[str], *, adapter: str | None = None) -> Answer:
        """Wait for one of some texts, with the log-likelihood of every one; see `choosing`."""
        return self.choosing(prompt, choices, adapter=adapter).result()

    def choosing(self, prompt: Prompt, choices: Sequence[str], *, adapter: str | None = None) -> Future[Answer]:
        """Ask for one of some texts, as `Engine.choose` answers: the greedy one, with the log-likelihood of every one.

        Args:
            prompt: The conversation up to the answer.
            choices: What may be said; those that are asked for together by many requests are best the very same ones.
            adapter: Who answers; None: the base model.

        Returns:
            The answer to be; it can be cancelled while nothing was done for it. It fails as `submit_several` does.

        Raises:
            BusyError: Too many requests wait.
            ConfigError: Two choices are written with the same tokens.
            ModelError: There is no such adapter.
            ContextLengthError: The prompt leaves no room for the longest choice.
        """
        self._require_adapter(adapter)
        tree = self._tree_of(tuple(choices))
        token_ids = self._renderer.prompt_tokens(prompt.messages, prompt.tools)
        if len(token_ids) + max(tree.depths) > self._max_tokens:
            raise ContextLengthError(
                f"a prompt of {len(token_ids):,} tokens leaves no room for an answer of {max(tree.depths):,}: the model takes "
                f"{self._max_tokens:,}",
                remedy="shorten the message, or name a model with a longer context",
            )
        return self._choosing(prompt, token_ids, tuple(choices), adapter)

    def longest_choice(self, choices: Sequence[str]) -> int:
        """Tokens of the longest of some choices, its end included."""
        return max(self._tree_of(tuple(choices)).depths)

    def add(self, name: str, folder: Path, prompts: Sequence[Prompt]) -> float:
        """Have an adapter, once it is shown on some prompts that it answers as it was trained; the largest difference, nats.

        Raises:
            BusyError: All adapters that fit into memory are writing answers.
            ConfigError: There is one of this name.
            ModelError: The folder holds no adapter for this model, or one that cannot answer beside others.
            IntegrityError: It changes nothing, or is not answered with as it was trained.
            RemoteError: Whoever holds the weights does not answer, or does not load it.
        """
        if name in self._folders:
            raise ConfigError(f"there is an adapter called {name!r} already", remedy="remove it first")
        found = self._have(name, folder, prompts)
        self._folders[name] = folder
        return found

    def remove(self, name: str) -> None:
        """Forget an adapter, once the answers that it is writing are whole.

        Raises:
            ModelError: There is none of this name.
        """
        if self._folders.pop(name, None) is None:
            raise ModelError(f"there is no adapter called {name!r}")
        self._forget(name)

    @abstractmethod
    def submit_several(
        self, prompt: Prompt, options: GenerationOptions, *, adapter: str | None = None, numbers: Sequence[int]
    ) -> tuple[AnswerStream, ...]:
        """Ask for some answers to one prompt, which is run once.

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

    @abstractmethod
    def _choosing(
        self, prompt: Prompt, token_ids: tuple[int, ...], choices: tuple[str, ...], adapter: str | None
    ) -> Future[Answer]:
        """What `choosing` says, for a prompt that may be asked."""

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Nothing is being written, and nothing waits."""

    @property
    @abstractmethod
    def num_waiting(self) -> int:
        """Answers that wait for their turn, where the engine knows."""

    @property
    @abstractmethod
    def num_running(self) -> int:
        """Answers that are being written."""

    @property
    @abstractmethod
    def num_adapters_in_memory(self) -> int:
        """Adapters that answer without being loaded first."""

    @abstractmethod
    def close(self) -> None:
        """Stop. Answers that are not whole end with an error."""

    @abstractmethod
    def _have(self, name: str, folder: Path, prompts: Sequence[Prompt]) -> float:
        """What `add` says, for a name that is new."""

    @abstractmethod
    def _forget(self, name: str) -> None:
        """What `remove` says, for a name that nobody can ask for any more."""

    def _asked(self, prompt: Prompt, options: GenerationOptions, adapter: str | None) -> tuple[tuple[int, ...], int]:
        """The tokens of a prompt that may be asked, and the most that its answer may have."""
        require_tokens(options, self._vocabulary_size)
        self._require_adapter(adapter)
        token_ids = self._renderer.prompt_tokens(prompt.messages, prompt.tools)
        [limit] = answer_limits([token_ids], options.max_new_tokens, self._max_tokens)
        return token_ids, limit

    def _require_adapter(self, name: str | None) -> None:
        if name is not None and name not in self._folders:
            raise ModelError(f"there is no adapter called {name!r}")

    def _build_tree(self, choices: tuple[str, ...]) -> ChoiceTree:
        return build_choice_tree([self._renderer.answer_tokens(choice) for choice in choices])
