"""A vLLM server behind the interface of the server's own engine: a base model on GPUs, and adapters that it loads over HTTP.

Prompts go there as tokens of our own template, and tokens come back: what ends an answer, and which of it is text, is decided here,
as for answers that are written in this process. The server holds the weights; here they are in memory only while the base model, or
an adapter of it, is held against them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fettle.answering.constrain import Constrainers
from fettle.answering.engine import GenerationOptions, answer_limits, require_tokens
from fettle.answering.engines.inbox import ServingLimits
from fettle.answering.engines.vllm import VllmEngine
from fettle.answering.engines.vllm_answer import VllmAnswer, request_of
from fettle.answering.engines.vllm_server import ServedBase, VllmServer
from fettle.answering.same_answers import (
    CheckRow,
    Expected,
    check_row,
    reference_of,
    require_apart,
    require_same_answers,
)
from fettle.answering.stream import AnswerStream
from fettle.chat.call_format import CallFormat, call_format
from fettle.errors import BusyError, ConfigError, ModelError, ResourceError
from fettle.models.adapter import load_adapter, unload_adapters
from fettle.models.load import LoadedModel
from fettle.records import Prompt

if TYPE_CHECKING:
    from concurrent.futures import Future

_WHOLE_ANSWER = "Yes."
"""After which the end of an answer is looked at."""
_ADAPTER_NAME = "tuned"


class VllmServingEngine:
    """See `ServingEngine`.

    Args:
        loaded: The base model without its weights.
        server: Where it is served.
        base: What the server calls it.
        limits: How much may be asked for at once; what is kept in memory is the server's.
        load_reference: Loads the base model with its weights, for as long as something is held against it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        server: VllmServer,
        base: ServedBase,
        *,
        limits: ServingLimits,
        load_reference: Callable[[], LoadedModel],
    ) -> None:
        self._loaded, self._renderer, self._server, self._base = loaded, loaded.renderer, server, base
        self._max_tokens = min(loaded.max_tokens, base.max_tokens or loaded.max_tokens)
        self._max_open = limits.max_rows + limits.max_waiting
        self._load_reference = load_reference
        self._noise = 0.0
        self._folders: dict[str, Path] = {}
        self._vocabulary_size = int(loaded.model.config.get_text_config().vocab_size)
        self._constrainers = Constrainers(
            loaded.renderer.tokenizer,
            end_of_turn_id=loaded.renderer.end_of_turn_id,
            vocabulary_size=self._vocabulary_size,
        )
        self._changed = threading.Condition()
        self._open: dict[VllmAnswer, Future[None]] = {}
        self._is_closed = False
        self._client = server.async_client()
        self._loop = asyncio.new_event_loop()
        self._loading = asyncio.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fettle asks vLLM", daemon=True)
        self._thread.start()

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that may be asked for."""
        return tuple(self._folders)

    def require_as_given(self, prompts: Sequence[Prompt]) -> float:
        """Show on some prompts that the server answers with our base model; the largest difference, nats.

        Raises:
            IntegrityError: It does not.
            RemoteError: It does not answer.
        """
        engine, reference = VllmEngine(self._loaded, self._server, base=self._base), self._load_reference()
        expected = self._expected(reference, untuned=None)
        self._noise = require_same_answers(engine, expected, self._check_rows(prompts))
        return self._noise

    def add(self, name: str, folder: Path, prompts: Sequence[Prompt]) -> float:
        """Have an adapter, once it is shown on some prompts that it answers as it was trained; the largest difference, nats.

        Raises:
            ConfigError: There is one of this name.
            ModelError: The folder holds no adapter for this model.
            IntegrityError: It changes nothing, or is not answered with as it was trained.
            RemoteError: The server does not answer, or does not load it.
        """
        if name in self._folders:
            raise ConfigError(f"there is an adapter called {name!r} already", remedy="remove it first")
        engine = VllmEngine(self._loaded, self._server, base=self._base, adapter=folder, adapter_name=name)
        try:
            found = self._require_as_trained(engine, folder, self._check_rows(prompts))
        except BaseException:
            engine.close()
            raise
        self._folders[name] = folder
        return found

    def remove(self, name: str) -> None:
        """Forget an adapter, once the answers that it is writing are whole.

        Raises:
            ModelError: There is none of this name.
        """
        if self._folders.pop(name, None) is None:
            raise ModelError(f"there is no adapter called {name!r}")
        with self._changed:
            self._changed.wait_for(lambda: all(answer.adapter != name for answer in self._open))
        self._server.unload_adapter(name)

    def submit(
        self, prompt: Prompt, options: GenerationOptions, *, adapter: str | None = None, number: int = 0
    ) -> AnswerStream:
        """Ask for an answer; see `submit_several`."""
        [stream] = self.submit_several(prompt, options, adapter=adapter, numbers=[number])
        return stream

    def submit_several(
        self, prompt: Prompt, options: GenerationOptions, *, adapter: str | None = None, numbers: Sequence[int]
    ) -> tuple[AnswerStream, ...]:
        """Ask for some answers to one prompt; see `ServingEngine`.

        Raises:
            BusyError: Too many requests are under way.
            ConfigError: The form cannot be kept, or a token is biased that the model has not.
            ModelError: There is no such adapter.
            DataError: The prompt leaves no room for an answer.
        """
        require_tokens(options, self._vocabulary_size)
        if adapter is not None and adapter not in self._folders:
            raise ModelError(f"there is no adapter called {adapter!r}")
        self._constrainers.of(options.form)  # refuses what cannot be kept, with our words
        token_ids = tuple(self._renderer.prompt_tokens(prompt.messages, prompt.tools))
        [limit] = answer_limits([token_ids], options.max_new_tokens, self._max_tokens)
        answers = [
            VllmAnswer(
                request=request_of(
                    adapter or self._base.id,
                    token_ids,
                    options,
                    limit=limit,
                    number=number,
                    stop_token_ids=self._loaded.stop_token_ids,
                ),
                adapter=adapter,
                stream=AnswerStream(len(token_ids)),
                stop_token_ids=self._loaded.stop_token_ids,
                decode=partial(self._renderer.decode, shown_ids=options.shown_token_ids),
                stop=options.stop,
                num_top_log_probs=options.num_top_log_probs,
            )
            for number in numbers
        ]
        with self._changed:
            self._require_room(len(answers))
            for answer in answers:
                self._begin(answer)
        return tuple(answer.stream for answer in answers)

    @property
    def is_idle(self) -> bool:
        """Nothing is being written."""
        return not self.num_running

    @property
    def num_waiting(self) -> int:
        """None that we know of: the server does not tell which answers wait."""
        return 0

    @property
    def num_running(self) -> int:
        """Answers that are asked for."""
        with self._changed:
            return sum(not answer.is_whole for answer in self._open)

    @property
    def num_adapters_in_memory(self) -> int:
        """Adapters that the server was told to load."""
        return len(self._folders)

    @property
    def loaded(self) -> LoadedModel:
        """The base model without its weights."""
        return self._loaded

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

    def close(self) -> None:
        """Stop, and take our adapters off the server. Answers that are not whole end with an error."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            left = dict(self._open)
        for answer, written in left.items():
            answer.stream.put(ResourceError("the engine was closed before this was done"))
            written.cancel()
        for name in list(self._folders):
            self._server.unload_adapter(name)
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _require_as_trained(self, engine: VllmEngine, folder: Path, rows: Sequence[CheckRow]) -> float:
        """Show that an adapter answers as it was trained, alone and while the base model is asked; the largest difference, nats."""
        reference = self._load_reference()
        says = reference_of(reference)

        def untuned(row: Sequence[int]) -> torch.Tensor:
            with peft.disable_adapter():
                return says(row)

        peft = load_adapter(reference, folder, name=_ADAPTER_NAME)
        try:
            expected = self._expected(reference, untuned=untuned)
            found = require_same_answers(engine, expected, rows)
            base = VllmEngine(self._loaded, self._server, base=self._base)
            require_apart((base, replace(expected, reference=untuned, untuned=None)), (engine, expected), rows)
        finally:
            unload_adapters(peft)
        return found

    def _check_rows(self, prompts: Sequence[Prompt]) -> list[CheckRow]:
        return [check_row(self._renderer, prompt, _WHOLE_ANSWER) for prompt in prompts]

    def _expected(self, reference: LoadedModel, *, untuned: Callable[[Sequence[int]], torch.Tensor] | None) -> Expected:
        return Expected(
            reference=reference_of(reference),
            untuned=untuned,
            stop_token_ids=self._loaded.stop_token_ids,
            dtype=torch.bfloat16,
            noise=self._noise,
        )

    def _require_room(self, num_more: int) -> None:
        """Show that more answers may be asked for; to be called while `_changed` is held.

        Raises:
            BusyError: Too many are under way.
            ResourceError: The engine was closed.
        """
        if self._is_closed:
            raise ResourceError("this engine was closed")
        num_open = self.num_running
        if num_open + num_more > self._max_open:
            raise BusyError(
                f"{num_open} answers are under way, and at most {self._max_open} may be",
                remedy="ask again in a few seconds",
            )

    def _begin(self, answer: VllmAnswer) -> None:
        written = asyncio.run_coroutine_threadsafe(answer.write(self._client, self._load_again), self._loop)
        self._open[answer] = written
        answer.stream.when_given_up(written.cancel)
        written.add_done_callback(lambda _: self._is_done(answer))

    def _is_done(self, answer: VllmAnswer) -> None:
        with self._changed:
            self._open.pop(answer, None)
            self._changed.notify_all()

    async def _load_again(self, adapter: str) -> bool:
        """Have the server load an adapter that it has forgotten, since it was started again; False: it was removed here."""
        async with self._loading:
            folder = self._folders.get(adapter)
            if folder is not None and not await asyncio.to_thread(self._server.has_adapter, adapter):
                await asyncio.to_thread(self._server.load_adapter, adapter, folder)
            return folder is not None
