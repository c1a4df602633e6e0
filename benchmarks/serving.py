"""Serving speed: `fettle serve` beside `transformers serve` on the same requests, one after the other in the same run.

Each server answers streaming chats of the embedded model over HTTP, many at once, greedily, up to 32 tokens each, about messages of
the bundled inbox. Throughput is tokens written a second, counted with the model's tokenizer from the text that came; the time to
the first token is from sending a request to its first text. A few requests come before anything is measured, to load the models.
`transformers serve` is measured as it comes and with its continuous batching.

    .venv/bin/python benchmarks/serving.py --json
    .venv/bin/python benchmarks/serving.py --at-once 64 --requests 128 --threads 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2
from openai import AsyncOpenAI

from fettle.models.load import converted_folder, load_tokenizer
from fettle.models.precision import Precision, choose_precision
from fettle.models.resolve import EMBEDDED_ID, resolve_model

NUM_NEW = 32
_INBOX = Path(__file__).parent.parent / "src/fettle/examples/parcels/inbox.jsonl"
_INSTRUCTION = "You answer messages to the support inbox of a parcel carrier, briefly and politely."
_START_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What some requests took."""

    num_failed: int
    num_tokens: int
    seconds: float
    tokens_per_second: float
    first_token_p50_seconds: float
    first_token_p95_seconds: float


def main() -> None:
    """Measure both and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    precision = choose_precision(Precision.AUTO)
    model = str(converted_folder(resolve_model(None)))
    peer = [sys.executable, "-m", "transformers.cli.transformers", "serve", model, "--device", "cpu"]
    peer += ["--dtype", "bfloat16" if precision is Precision.FAST else "float32"]
    contenders: dict[str, tuple[list[str], str]] = {
        "fettle": ([sys.executable, "-m", "fettle", "serve", "--without-keys", "--workers", "0"], EMBEDDED_ID),
        "transformers": (peer, model),
        "transformers_continuous": ([*peer, "--continuous-batching"], model),
    }
    found: dict[str, list[Served]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, (command, asked) in contenders.items():
            with _serving(command, options.threads) as url:
                asyncio.run(_measure(url, asked, _messages(4), at_once=4))
                found[name].append(
                    asyncio.run(_measure(url, asked, _messages(options.requests), at_once=options.at_once))
                )
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    middle = {name: sorted(runs, key=lambda run: run.tokens_per_second)[len(runs) // 2] for name, runs in found.items()}
    best_peer = max(run.tokens_per_second for name, run in middle.items() if name != "fettle")
    result = {
        "precision": precision.value,
        "threads": options.threads,
        **{name: asdict(run) for name, run in middle.items()},
        "ratio": middle["fettle"].tokens_per_second / best_peer,
    }
    print(json.dumps(result, indent=None if options.json else 2))


def _messages(count: int) -> list[str]:
    rows = [json.loads(line) for line in _INBOX.read_text().split("\n") if line]
    return [str(row["message"]) for row in rows[:count]]


async def _measure(url: str, model: str, texts: Sequence[str], *, at_once: int) -> Served:
    tokenizer, gate = load_tokenizer(resolve_model(None)), asyncio.Semaphore(at_once)
    first: list[float] = []

    async def answer(client: AsyncOpenAI, text: str) -> str:
        async with gate:
            started, said = time.perf_counter(), ""
            stream = await client.chat.completions.create(
                model=model,
                messages=[{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": text}],
                max_tokens=NUM_NEW,
                temperature=0,
                stream=True,
            )
            async for chunk in stream:
                new = chunk.choices[0].delta.content if chunk.choices else None
                if new and not said:
                    first.append(time.perf_counter() - started)
                said += new or ""
            return said

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600) as client:
        started = time.perf_counter()
        answers = await asyncio.gather(*(answer(client, text) for text in texts), return_exceptions=True)
        seconds = time.perf_counter() - started
    said = [answer for answer in answers if isinstance(answer, str)]
    num_tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in said)  # pyright: ignore[reportArgumentType]
    cuts = statistics.quantiles(first, n=20, method="inclusive")
    return Served(
        num_failed=len(answers) - len(said),
        num_tokens=num_tokens,
        seconds=seconds,
        tokens_per_second=num_tokens / seconds,
        first_token_p50_seconds=statistics.median(first),
        first_token_p95_seconds=cuts[-1],
    )


@contextmanager
def _serving(command: Sequence[str], threads: int) -> Iterator[str]:
    """A server on a free port, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "FETTLE_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], env=environment, stdout=log, stderr=log
        )
        try:
            _wait_until_it_answers(f"http://127.0.0.1:{port}/v1/models", process)
            yield f"http://127.0.0.1:{port}"
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


if __name__ == "__main__":
    main()
