"""What other threads want of the one that runs the model, and how much of it may wait."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from fettle.answering.choices import ChoiceTree
from fettle.answering.stream import AnswerStream, Piece
from fettle.answering.writing import AnswerInWriting
from fettle.errors import BusyError, ResourceError
from fettle.records import Answer, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingLimits:
    """How much is done and kept at once."""

    max_rows: int = 32
    """Answers written at once; what comes beyond them waits."""
    max_waiting: int = 256
    """Requests that may wait; what comes beyond them is refused."""
    max_adapters: int = 16
    """Adapters in memory; others are loaded again when they are asked for."""
    max_cache_bytes: int = 2 << 30
    """Keys and values of answers that are being written. Where they grow beyond it, the newest step back and go on later."""
    max_prefix_bytes: int = 256 << 20
    """Keys and values of prompts' beginnings that are kept."""


@dataclass(slots=True)
class AskedAnswer:
    """An answer that somebody waits for."""

    token_ids: tuple[int, ...]
    answer: AnswerInWriting
    adapter: str | None
    stream: AnswerStream
    is_one_of_many: bool = False
    """Others have the same prompt."""
    num_log_probs: int = 0
    admitted_at: float = 0.0
    """Seconds, of `time.monotonic`."""

    def pass_on(self) -> None:
        """Give out what was written since the last step."""
        answer = self.answer
        if self.stream.is_given_up:
            answer.give_up()
        if answer.error is not None:
            self.stream.put(answer.error)
            return
        text = answer.next_piece()
        new = tuple(answer.log_probs[self.num_log_probs : answer.num_certain_tokens])
        self.num_log_probs += len(new)
        if text or new or not answer.is_open:
            self.stream.put(
                Piece(
                    text=text,
                    log_probs=new,
                    other_log_probs=() if answer.is_open else tuple(answer.log_probs[self.num_log_probs :]),
                    finish_reason=answer.finish_reason,
                    num_tokens=len(answer.tokens),
                )
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AskedChoice:
    """One of some texts that somebody waits for."""

    prompt: Prompt
    token_ids: tuple[int, ...]
    choices: tuple[str, ...]
    tree: ChoiceTree
    adapter: str | None
    future: Future[Answer] = field(default_factory=Future)
    asked_at: float = field(default_factory=time.perf_counter)

    @property
    def num_slots(self) -> int:
        """Tokens whose keys and values it takes."""
        return len(self.token_ids) + len(self.tree.nodes_to_run)


@dataclass(slots=True)
class Inbox:
    """What other threads want of the one that runs the model."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    requests: deque[AskedAnswer] = field(default_factory=deque)
    choices: deque[AskedChoice] = field(default_factory=deque)
    tasks: deque[tuple[Callable[[], Any], Future[Any]]] = field(default_factory=deque)
    is_closed: bool = False

    def require_room(self, num_more: int, *, limits: ServingLimits, seconds_an_answer: float) -> None:
        """Show that more answers may wait; to be called while `changed` is held.

        Raises:
            BusyError: Too many wait already; it says when to ask again.
        """
        num_waiting = sum(not request.stream.is_given_up for request in self.requests)
        num_waiting += sum(not one.future.cancelled() for one in self.choices)
        if num_waiting + num_more > limits.max_waiting:
            raise BusyError(
                f"{num_waiting} answers are waited for already, and at most {limits.max_waiting} may be",
                remedy="ask again in a few seconds",
                retry_after_seconds=seconds_an_answer * (1 + num_waiting / limits.max_rows),
            )

    def without_given_up(self) -> None:
        """Let requests leave that nobody waits for any more."""
        with self.changed:
            given_up = [request for request in self.requests if request.stream.is_given_up]
            if given_up:
                self.requests = deque(request for request in self.requests if not request.stream.is_given_up)
        for request in given_up:
            request.pass_on()

    def first_choice(self, adapters: Collection[str | None] | None = None) -> AskedChoice | None:
        """The first choice that somebody still waits for, by one of some adapters; None: by any."""
        with self.changed:
            if any(one.future.cancelled() for one in self.choices):
                self.choices = deque(one for one in self.choices if not one.future.cancelled())
            return next((one for one in self.choices if adapters is None or one.adapter in adapters), None)

    def take_choices(self, like: AskedChoice, *, at_most: int, max_slots: int) -> list[AskedChoice]:
        """Choices among the same texts by the same adapter, which nobody can cancel from now on.

        Args:
            like: One of them.
            at_most: So many.
            max_slots: Tokens whose keys and values fit into memory; the first is taken in any case.
        """
        alike: list[AskedChoice] = []
        with self.changed:
            for one in self.choices:
                if len(alike) == at_most or (alike and one.num_slots > max_slots):
                    break
                if (one.adapter, one.choices) == (like.adapter, like.choices):
                    alike.append(one)
                    max_slots -= one.num_slots
            self.choices = deque(one for one in self.choices if one not in alike)
        return [one for one in alike if one.future.set_running_or_notify_cancel()]

    def do_in_thread(self, task: Callable[[], Any]) -> Any:
        """Have something done by the thread that runs the model, between two steps; its result.

        Raises:
            ResourceError: The engine was closed.
        """
        future: Future[Any] = Future()
        with self.changed:
            if self.is_closed:
                raise ResourceError("this engine was closed")
            self.tasks.append((task, future))
            self.changed.notify()
        return future.result()
