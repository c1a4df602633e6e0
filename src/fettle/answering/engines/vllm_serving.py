"""A vLLM server behind the interface of the server's own engine: a base model on GPUs, and adapters that it loads over HTTP.

Prompts go there as tokens of our own template, and tokens come back: what ends an answer, and which of it is text, is decided here,
as for answers that are written in this process. The server holds the weights; here they are in memory only while the base model, or
an adapter of it, is held against them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from fettle.answering.choices import chosen_answers
from fettle.answering.engine import GenerationOptions
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
from fettle.answering.serving_engine import ServingEngine
from fettle.answering.stream import AnswerStream
from fettle.errors import BusyError, ResourceError
from fettle.models.adapter import load_adapter, unload_adapters
from fettle.models.load import LoadedModel
from fettle.records import Answer, Prompt

_WHOLE_ANSWER = "Yes."
"""After which the end of an answer is looked at."""
_ADAPTER_NAME = "tuned"
_CHOOSERS = 8
"""Choices asked for at once; each is as many requests as it has paths."""


class VllmServingEngine(ServingEngine):
    """Answers by a vLLM server; see `ServingEngine`.

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
        super().__init__(loaded, max_tokens=min(loaded.max_tokens, base.max_tokens or loaded.max_tokens))
        self._server, self._base = server, base
        self._max_open = limits.max_rows + limits.max_waiting
        self._load_reference = load_reference
        self._noise = 0.0
        self._changed = threading.Condition()
        self._open: dict[VllmAnswer, Future[None]] = {}
        self._choosing_by: Counter[str | None] = Counter()
        self._choosers = ThreadPoolExecutor(_CHOOSERS, thread_name_prefix="fettle chooses")
        self._is_closed = False
        self._client = server.async_client()
        self._loop = asyncio.new_event_loop()
        self._loading = asyncio.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fettle asks vLLM", daemon=True)
        self._thread.start()

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

    def submit_several(
        self, prompt: Prompt, options: GenerationOptions, *, adapter: str | None = None, numbers: Sequence[int]
    ) -> tuple[AnswerStream, ...]:
        """Ask for some answers to one prompt; see `ServingEngine`."""
        self._constrainers.of(options.form)  # refuses what cannot be kept, with our words
        token_ids, limit = self._asked(prompt, options, adapter)
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
                space=self._space,
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

    def _choosing(
        self, prompt: Prompt, token_ids: tuple[int, ...], choices: tuple[str, ...], adapter: str | None
    ) -> Future[Answer]:
        with self._changed:
            self._require_room(1)
            chosen = self._choosers.submit(self._choose, prompt, token_ids, choices, adapter)
            self._choosing_by[adapter] += 1
        chosen.add_done_callback(lambda _: self._has_chosen(adapter))
        return chosen

    def _choose(
        self, prompt: Prompt, token_ids: tuple[int, ...], choices: tuple[str, ...], adapter: str | None
    ) -> Answer:
        started, tree = time.perf_counter(), self._tree_of(choices)
        engine = VllmEngine(self._loaded, self._server, base=self._base, served_adapter=adapter)
        edges = engine.edges([token_ids], tree)
        seconds = time.perf_counter() - started
        [answer] = chosen_answers([prompt], [token_ids], choices, tree, edges, seconds=seconds)
        return answer

    def _has_chosen(self, adapter: str | None) -> None:
        with self._changed:
            self._choosing_by[adapter] -= 1
            self._changed.notify_all()

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
            return sum(not answer.is_whole for answer in self._open) + self._choosing_by.total()

    @property
    def num_adapters_in_memory(self) -> int:
        """Adapters that the server was told to load."""
        return len(self._folders)

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
        self._choosers.shutdown(wait=False, cancel_futures=True)
        for name in list(self._folders):
            self._server.unload_adapter(name)
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _have(self, name: str, folder: Path, prompts: Sequence[Prompt]) -> float:
        engine = VllmEngine(self._loaded, self._server, base=self._base, adapter=folder, adapter_name=name)
        try:
            return self._require_as_trained(engine, folder, self._check_rows(prompts))
        except BaseException:
            engine.close()
            raise

    def _forget(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: not self._choosing_by[name] and all(answer.adapter != name for answer in self._open)
            )
        self._server.unload_adapter(name)

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
