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
import json
import os
import sys
from dataclasses import asdict

from chats import Question, Served, ask, inbox, serving
from fettle.models.load import converted_folder
from fettle.models.precision import Precision, choose_precision
from fettle.models.resolve import EMBEDDED_ID, resolve_model


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
            with serving(command, options.threads) as server:
                _measure(server.url, asked, 4, at_once=4)
                found[name].append(_measure(server.url, asked, options.requests, at_once=options.at_once))
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


def _measure(url: str, model: str, num_requests: int, *, at_once: int) -> Served:
    questions = [Question(model, str(row["message"])) for row in inbox()[:num_requests]]
    return ask(url, questions, at_once=at_once)[1]


if __name__ == "__main__":
    main()
