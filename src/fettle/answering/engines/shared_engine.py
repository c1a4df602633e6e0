"""One base model in memory that answers for itself and for all its adapters, whoever asks and whenever: what a server needs.

Requests come from any thread. One thread runs the model: between two steps it takes in what has come, whatever prefix or adapter it
has, and what is whole leaves. Adapters are loaded when they are asked for, and the least recently used go when there are too many.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fettle.answering.choices import chosen_answers
from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.adapter_check import AdapterCheck
from fettle.answering.engines.inbox import AskedAnswer, AskedChoice, Inbox, ServingLimits
from fettle.answering.engines.prefix_store import PrefixStore
from fettle.answering.engines.running_batch import Row, RunningBatch, SharedPrefix
from fettle.answering.engines.tree_edges import edges_after
from fettle.answering.serving_engine import ServingEngine
from fettle.answering.stream import AnswerStream
from fettle.answering.writing import AnswerInWriting, Ending
from fettle.errors import BusyError, EngineError, FettleError, ModelError, ResourceError
from fettle.models.load import LoadedModel, require_form
from fettle.models.own_attention import own_attention
from fettle.models.routed_adapters import Route, RoutedAdapters
from fettle.models.row_cache import key_value_bytes
from fettle.models.understood import require_understood
from fettle.records import Answer, Prompt

_NEWEST_SHARE = 0.1
"""How much the newest answer counts in the seconds that one takes."""


class SharedEngine(ServingEngine):
    """Answers with a base model and any number of its adapters; see `ServingEngine`.

    Args:
        loaded: The base model, bare. While the engine is open nothing else may use it.
        limits: How much is done and kept at once.

    Raises:
        IntegrityError: An adapter is on the model already, or packed rows do not fit it.
    """

    def __init__(self, loaded: LoadedModel, limits: ServingLimits | None = None) -> None:
        require_form(loaded)
        require_understood(loaded.model)
        super().__init__(loaded, max_tokens=loaded.max_tokens)
        self._model = loaded.model
        self._limits = limits or ServingLimits()
        self._adapters = RoutedAdapters(loaded)
        self._check = AdapterCheck(loaded, self._adapters)
        self._used: OrderedDict[str, None] = OrderedDict()  # adapters in memory, the least recently used first
        self._seconds_an_answer = 1.0
        self._prefixes = PrefixStore(loaded.model, max_bytes=self._limits.max_prefix_bytes)
        self._batch = RunningBatch(loaded.model, adapters=self._adapters)
        self._max_slots = self._limits.max_cache_bytes // key_value_bytes(loaded.model)
        self._running: list[AskedAnswer] = []
        self._inbox = Inbox()
        self._choice_waits = False
        self._num_choosing = 0
        self._thread = threading.Thread(target=self._run, name="fettle answers", daemon=True)
        self._thread.start()

    def __enter__(self) -> SharedEngine:
        """The engine."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close it."""
        self.close()

    def submit_several(
        self, prompt: Prompt, options: GenerationOptions, *, adapter: str | None = None, numbers: Sequence[int]
    ) -> tuple[AnswerStream, ...]:
        """Ask for some answers to one prompt, which is run once; see `ServingEngine`."""
        token_ids, limit = self._asked(prompt, options, adapter)
        ending = Ending(
            stop_token_ids=self._loaded.stop_token_ids,
            decode=partial(self._renderer.decode, shown_ids=options.shown_token_ids),
            space=self._space,
        )
        constrainer = self._constrainers.of(options.form)
        requests = [
            AskedAnswer(
                token_ids,
                AnswerInWriting(limit, options, ending, constrainer=constrainer, number=number),
                adapter,
                AnswerStream(len(token_ids)),
                is_one_of_many=len(numbers) > 1,
            )
            for number in numbers
        ]
        with self._inbox.changed:
            if self._inbox.is_closed:
                raise ResourceError("this engine was closed")
            self._inbox.require_room(len(requests), limits=self._limits, seconds_an_answer=self._seconds_an_answer)
            self._inbox.requests.extend(requests)
            self._inbox.changed.notify()
        return tuple(request.stream for request in requests)

    def _choosing(
        self, prompt: Prompt, token_ids: tuple[int, ...], choices: tuple[str, ...], adapter: str | None
    ) -> Future[Answer]:
        tree = self._tree_of(choices)
        asked = AskedChoice(prompt=prompt, token_ids=token_ids, choices=choices, tree=tree, adapter=adapter)
        with self._inbox.changed:
            if self._inbox.is_closed:
                raise ResourceError("this engine was closed")
            self._inbox.require_room(1, limits=self._limits, seconds_an_answer=self._seconds_an_answer)
            self._inbox.choices.append(asked)
            self._inbox.changed.notify()
        return asked.future

    @property
    def is_idle(self) -> bool:
        """Nothing is being written, and nothing waits."""
        with self._inbox.changed:
            return not (self._has_rows() or self._num_choosing or self._inbox.tasks)

    @property
    def num_waiting(self) -> int:
        """Answers that wait for a place in the batch."""
        return len(self._inbox.requests) + len(self._inbox.choices)

    @property
    def num_running(self) -> int:
        """Answers that are being written, or chosen."""
        return len(self._running) + self._num_choosing

    @property
    def num_adapters_in_memory(self) -> int:
        """Adapters that answer without being loaded first."""
        return len(self._used)

    def close(self) -> None:
        """Stop, and leave the base model as it was. Answers that are not whole end with an error."""
        with self._inbox.changed:
            self._inbox.is_closed = True
            self._inbox.changed.notify()
        self._thread.join()

    def _have(self, name: str, folder: Path, prompts: Sequence[Prompt]) -> float:
        rows = [self._renderer.prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]

        def put_and_check() -> float:
            if not self._make_room():
                raise BusyError("every adapter in memory is writing answers", remedy="try again in a few seconds")
            self._load(name, folder)
            try:
                return self._check.require_as_trained(name, rows)
            except BaseException:
                self._unload(name)
                raise

        return self._inbox.do_in_thread(put_and_check)

    def _forget(self, name: str) -> None:
        self._inbox.do_in_thread(lambda: self._let_go(name))

    # ------------------------------------------------------------------------------------------- in the model's thread

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._do_tasks()
                with torch.inference_mode(), own_attention(self._model):
                    while self._has_rows() and not (self._inbox.tasks or self._inbox.is_closed):
                        self._choose()
                        self._advance(takes_in=True)
        finally:
            with self._inbox.changed:
                self._inbox.is_closed = True
            closed = ResourceError("the engine was closed before this was done")
            self._fail(lambda _: True, closed)
            for _, future in self._inbox.tasks:
                future.set_exception(closed)
            for name in list(self._used):
                self._unload(name)

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do; False: nothing will be."""
        with self._inbox.changed:
            while not (self._inbox.is_closed or self._inbox.tasks or self._has_rows()):
                self._inbox.changed.wait()
            return not self._inbox.is_closed

    def _has_rows(self) -> bool:
        return bool(self._inbox.requests or self._running or self._inbox.choices)

    def _do_tasks(self) -> None:
        while self._inbox.tasks:
            task, future = self._inbox.tasks.popleft()
            try:
                future.set_result(task())
            except BaseException as error:  # it belongs to who asked for the task
                future.set_exception(error)

    def _choose(self) -> None:
        """Answer some of those who wait for one of the same texts, by one pass of the model."""
        first, asked = self._inbox.first_choice(), []
        self._choice_waits = False
        if first is None:
            return
        try:
            # Where every adapter in memory is writing answers, its turn comes when one of them is idle; `_admit` leaves it one.
            if not self._has_adapter(first.adapter):
                self._choice_waits = True
                there = self._inbox.first_choice((None, *self._used))
                if there is None:
                    return
                first = there
            asked = self._take_choices(first)
            with self._adapters.serving([Route(first.adapter, None)]):
                prefixes = [self._prefixes.prefix_of(one.token_ids, first.adapter) for one in asked]
                for prefix in {id(prefix): prefix for prefix in prefixes}.values():
                    self._choose_after(prefix, [one for one, its in zip(asked, prefixes, strict=True) if its is prefix])
        except Exception as error:  # whatever it is, those who wait must be told
            for one in asked or self._take_choices(first):
                if not one.future.done():
                    one.future.set_exception(_explained(error))
        finally:
            self._num_choosing = 0

    def _take_choices(self, like: AskedChoice) -> list[AskedChoice]:
        """As many as are run at once, beside the answers that are being written."""
        max_slots = self._max_slots - self._batch.num_slots
        with self._inbox.changed:
            taken = self._inbox.take_choices(like, at_most=self._limits.max_rows, max_slots=max_slots)
            self._num_choosing = len(taken)
        return taken

    def _choose_after(self, prefix: SharedPrefix, asked: Sequence[AskedChoice]) -> None:
        rows = [one.token_ids for one in asked]
        edges = edges_after(self._model, rows, prefix, asked[0].tree)
        prompts = [one.prompt for one in asked]
        answers = chosen_answers(prompts, rows, asked[0].choices, asked[0].tree, edges, seconds=0.0)
        for one, answer in zip(asked, answers, strict=True):
            usage = replace(answer.usage, seconds=time.perf_counter() - one.asked_at)
            one.future.set_result(replace(answer, usage=usage))

    def _advance(self, *, takes_in: bool) -> None:
        """One step of all answers, and of those that have come where they are to be taken in."""
        try:
            if takes_in:
                self._admit()
            self._keep_within_memory()
            self._batch.step()
        except Exception as error:  # whatever it is, those who wait must be told
            self._fail(lambda _: True, _explained(error))
            self._batch = RunningBatch(self._model, adapters=self._adapters)
            return
        self._pass_on()

    def _pass_on(self) -> None:
        """Give out what was written, and let go of what is whole."""
        for request in self._running:
            request.pass_on()
            if not request.answer.is_open:
                seconds = time.monotonic() - request.admitted_at
                self._seconds_an_answer += _NEWEST_SHARE * (seconds - self._seconds_an_answer)
        self._running = [request for request in self._running if request.answer.is_open]

    def _admit(self) -> None:
        """Let requests that wait join the batch, those that share prefix and adapter together."""
        self._inbox.without_given_up()
        joining: dict[tuple[str | None, int], tuple[list[AskedAnswer], Any]] = {}
        joining_tokens = 0
        while self._inbox.requests and len(self._running) < self._limits.max_rows:
            request = self._inbox.requests[0]
            if self._choice_waits and request.adapter is not None:
                break  # a choice came before it, and waits for an adapter in memory to become idle
            joining_tokens += len(request.token_ids) + len(request.answer.tokens)
            if self._running and self._batch.num_slots + joining_tokens > self._max_slots:
                break
            try:
                is_there = self._has_adapter(request.adapter)
            except Exception as error:  # its files are gone: nobody else's answer suffers
                self._inbox.requests.popleft()
                request.answer.fail(_explained(error))
                request.pass_on()
                continue
            if not is_there:
                break  # it waits for an adapter in memory to become idle, and those behind it wait too: first come, first served
            self._inbox.requests.popleft()
            self._running.append(request)
            request.admitted_at = time.monotonic()
            with self._adapters.serving([Route(request.adapter, None)]):
                prefix = self._prefixes.prefix_of(
                    request.token_ids, request.adapter, is_one_of_many=request.is_one_of_many
                )
            joining.setdefault((request.adapter, id(prefix)), ([], prefix))[0].append(request)
        for (adapter, _), (requests, prefix) in joining.items():
            rows = [Row((*request.token_ids, *request.answer.tokens), request.answer) for request in requests]
            self._batch.join(rows, prefix, adapter=adapter)
        self._pass_on()

    def _keep_within_memory(self) -> None:
        """Let the newest answers step back while keys and values take more memory than they may."""
        if self._batch.num_slots > self._max_slots:
            self._batch.drop_finished()
        while self._batch.num_slots > self._max_slots and len(self._running) > 1:
            newest = self._running.pop()
            self._batch.leave(newest.answer)
            with self._inbox.changed:
                self._inbox.requests.appendleft(newest)

    def _has_adapter(self, name: str | None) -> bool:
        """Whether an adapter is in memory, after trying to have it there."""
        if name is None or name in self._used:
            if name is not None:
                self._used.move_to_end(name)
            return True
        if not self._make_room():
            return False
        self._load(name, self._folders[name])
        return True

    def _make_room(self) -> bool:
        """Whether there is memory for one more adapter, after taking off the one that was idle longest where there was none."""
        if len(self._used) < self._limits.max_adapters:
            return True
        busy = {request.adapter for request in self._running}
        idle = next((name for name in self._used if name not in busy), None)
        if idle is not None:
            self._unload(idle)
        return idle is not None

    def _load(self, name: str, folder: Path) -> None:
        self._adapters.put(name, folder)
        self._used[name] = None

    def _unload(self, name: str) -> None:
        self._adapters.take(name)
        self._prefixes.forget(name)
        del self._used[name]

    def _let_go(self, name: str) -> None:
        """Write an adapter's running answers to their end, and take it off."""
        with torch.inference_mode(), own_attention(self._model):
            while any(request.adapter == name for request in self._running):
                self._advance(takes_in=False)
        self._fail(lambda request: request.adapter == name, ModelError(f"the adapter {name!r} was removed"))
        if name in self._used:
            self._unload(name)

    def _fail(self, concerns: Callable[[AskedAnswer | AskedChoice], bool], error: FettleError) -> None:
        """Tell some of those who wait that there will be no answer."""
        for request in filter(concerns, [*self._running, *self._inbox.requests]):
            request.answer.give_up()
            request.stream.put(error)
        self._running = [request for request in self._running if not concerns(request)]
        with self._inbox.changed:
            self._inbox.requests = deque(request for request in self._inbox.requests if not concerns(request))
            choices = [one for one in self._inbox.choices if concerns(one)]
            self._inbox.choices = deque(one for one in self._inbox.choices if not concerns(one))
        for one in choices:
            if one.future.set_running_or_notify_cancel():
                one.future.set_exception(error)


def _explained(error: Exception) -> FettleError:
    return error if isinstance(error, FettleError) else EngineError(f"the model could not be run: {error}")
