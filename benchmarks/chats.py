"""A server in a process of its own, and many chats that it is asked at once over HTTP: what the benchmarks of serving share.

Chats are streamed, greedy and of up to 32 tokens, about messages of the bundled inbox. The time to the first token is from sending
a request to its first text; tokens are counted with the embedded model's tokenizer from the text that came.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
from openai import AsyncOpenAI, OpenAIError

from fettle.models.load import load_tokenizer
from fettle.models.resolve import resolve_model

NUM_NEW = 32
INSTRUCTION = "You answer messages to the support inbox of a parcel carrier, briefly and politely."
_INBOX = Path(__file__).parent.parent / "src/fettle/examples/parcels/inbox.jsonl"
_START_SECONDS = 120
_SECONDS_BETWEEN_LOOKS = 0.02


@dataclass(frozen=True, slots=True)
class Question:
    """One message, and the model that is to answer it."""

    model: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one request."""

    text: str
    first_token_seconds: float | None
    """None: no text came."""
    failure: str | None
    """None: the stream came to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What some requests took."""

    num_failed: int
    num_tokens: int
    seconds: float
    tokens_per_second: float
    first_token_p50_seconds: float | None
    """None: no text came at all."""
    first_token_p95_seconds: float | None


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    url: str
    """Without `/v1`."""
    pid: int
    """Of the process that answers requests."""


def inbox() -> list[dict[str, Any]]:
    """The rows of the bundled inbox."""
    return [json.loads(line) for line in _INBOX.read_text().split("\n") if line]


def ask(url: str, questions: Sequence[Question], *, at_once: int) -> tuple[list[Answer], Served]:
    """Ask a server, with up to `at_once` requests on their way; the answers in the order of the questions."""
    answers, seconds = asyncio.run(_ask(url, questions, at_once))
    return answers, _summary(answers, seconds)


async def _ask(url: str, questions: Sequence[Question], at_once: int) -> tuple[list[Answer], float]:
    gate = asyncio.Semaphore(at_once)
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600) as client:

        async def answer(question: Question) -> Answer:
            async with gate:
                return await _streamed(client, question)

        started = time.perf_counter()
        answers = await asyncio.gather(*map(answer, questions))
        return answers, time.perf_counter() - started


async def _streamed(client: AsyncOpenAI, question: Question) -> Answer:
    started, said = time.perf_counter(), ""
    first: float | None = None
    finish: str | None = None
    failure: str | None = None
    try:
        stream = await client.chat.completions.create(
            model=question.model,
            messages=[{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question.text}],
            max_tokens=NUM_NEW,
            temperature=0,
            stream=True,
        )
        async for chunk in stream:
            for choice in chunk.choices:
                if choice.delta.content and first is None:
                    first = time.perf_counter() - started
                said += choice.delta.content or ""
                finish = choice.finish_reason or finish
    except (OpenAIError, httpx2.HTTPError) as error:
        failure = f"{type(error).__name__}: {error}"
    if failure is None and finish is None:
        failure = "the stream ended before the answer did"
    return Answer(text=said, first_token_seconds=first, failure=failure)


def _summary(answers: Sequence[Answer], seconds: float) -> Served:
    tokenizer: Any = load_tokenizer(resolve_model(None))
    said = [answer.text for answer in answers if answer.failure is None]
    num_tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in said)
    first = sorted(answer.first_token_seconds for answer in answers if answer.first_token_seconds is not None)
    cuts = statistics.quantiles(first, n=20, method="inclusive") if len(first) > 1 else first
    return Served(
        num_failed=len(answers) - len(said),
        num_tokens=num_tokens,
        seconds=seconds,
        tokens_per_second=num_tokens / seconds,
        first_token_p50_seconds=statistics.median(first) if first else None,
        first_token_p95_seconds=cuts[-1] if cuts else None,
    )


@contextmanager
def serving(command: Sequence[str], threads: int, *, home: Path | None = None) -> Iterator[Server]:
    """A server on a free port, once it answers.

    Args:
        command: What starts it; `--host` and `--port` are added.
        threads: Processor threads of its model work.
        home: Its FETTLE_HOME; None: that of this process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "FETTLE_THREADS": str(threads)}
    if home is not None:
        environment["FETTLE_HOME"] = str(home)
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], env=environment, stdout=log, stderr=log
        )
        try:
            _wait_until_it_answers(f"http://127.0.0.1:{port}/v1/models", process)
            yield Server(f"http://127.0.0.1:{port}", process.pid)
        except Exception:
            log.seek(0)
            print(log.read()[-3000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(60)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx2.get(url, timeout=5)
            return
        except httpx2.HTTPError:
            time.sleep(0.2)
    raise SystemExit(f"no server answers at {url}")


class PeakMemory:
    """The most resident memory that a process holds within a `with`, by looking at it 50 times a second.

    Args:
        pid: Of the process.
    """

    def __init__(self, pid: int) -> None:
        self._process, self._stops = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.peak_bytes = 0

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stops.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
            if self._stops.wait(_SECONDS_BETWEEN_LOOKS):
                return
