"""How the time of training grows: with the examples, with the length of prompts (shared or not), and with the adapter's rank.

Each point is trained in a process of its own, in rounds; what counts is the median. What has been measured is kept under `--out`
and not measured again, so a run that was cut off goes on. A chart is drawn of what is there.

    .venv/bin/python benchmarks/growth.py --out reports/growth.json --chart docs/growth.svg
    .venv/bin/python benchmarks/growth.py --peer-python .venv-peers/bin/python --peer-script ../shared/bench/peers_sft.py

The prompts are words of the bundled messages in random order, cut to so many tokens; answers have eight. Embedded model, fp32.
`docs/growth.md` says how to read the chart.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from fettle.files import write_atomically
from fettle.models.adapter import LoraSettings
from fettle.models.load import converted_folder, load_model, load_tokenizer
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from fettle.study.prepare import prepare
from fettle.study.settings import StudySettings
from fettle.training.loop import train
from fettle.training.settings import TrainingSettings
from growth_chart import Curve, Panel, drawn
from training import tokenised

NUM_ANSWER_TOKENS = 8
SHORT = 25
"""Tokens of an instruction or a message that are not what grows."""
ENGINES = {"fettle": "Fettle", "trl": "TRL SFTTrainer with PEFT"}


@dataclass(frozen=True, slots=True)
class Point:
    """One training run."""

    sweep: str
    value: int
    """Of what grows."""
    num_rows: int
    batch_size: int
    num_shared_tokens: int = SHORT
    """Of the instruction, the same in all rows."""
    num_own_tokens: int = SHORT
    """Of the message, different in each row."""
    rank: int = 16

    @property
    def num_batch_tokens(self) -> int:
        """Of one batch, as a trainer that shares nothing runs it."""
        return self.batch_size * (self.num_shared_tokens + self.num_own_tokens + NUM_ANSWER_TOKENS)


def points(sweep: str, lengths: list[int]) -> list[Point]:
    """The runs of a sweep; `lengths` of prompts, tokens."""
    match sweep:
        case "examples":
            return [Point(sweep, count, count, 16) for count in (16, 64, 256)]
        case "shared prompt":
            return [Point(sweep, length, 4, 4, num_shared_tokens=length) for length in lengths]
        case "own prompt":
            return [Point(sweep, length, 4, 4, num_own_tokens=length) for length in lengths]
        case "rank":
            return [Point(sweep, rank, 16, 16, rank=rank) for rank in (4, 16, 64, 128)]
        case _:
            raise ValueError(f"no such sweep: {sweep}")


TITLES = {
    "examples": ("Whole training, one epoch", "examples"),
    "shared prompt": ("A step of 4 examples", "tokens of an instruction that all share"),
    "own prompt": ("A step of 4 examples", "tokens of a message, each its own"),
    "rank": ("A step of 16 examples", "rank of the adapter"),
}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/growth.json"), help="what has been measured")
    parser.add_argument("--chart", type=Path, help="where to draw it, SVG")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sweeps", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--lengths", nargs="+", type=int, default=[64, 256, 1024, 4096], help="of prompts, tokens")
    parser.add_argument("--peer-python", type=Path, help="Python with torch, trl, peft; left out: no peer runs")
    parser.add_argument("--peer-script", type=Path, help="trains with TRL and prints a line of JSON (peers_sft.py)")
    parser.add_argument("--peer-memory", type=float, metavar="GIB", help="the peer's; left out: what is free")
    parser.add_argument("--own-run", nargs=3, metavar=("DATA", "BATCH", "RANK"), help=argparse.SUPPRESS)
    return parser.parse_args()


def bundled_words() -> list[str]:
    """Of the bundled messages."""
    examples = prepare(StudySettings(examples=Path("example:routing"))).split.train
    return " ".join(example.messages[-2].content for example in examples).split()


def write_rows(point: Point, tokenizer: Any, words: list[str], to: Path) -> Path:
    """The rows of a point as chats."""
    source = random.Random(point.value)

    def text(num_tokens: int) -> str:
        ids = tokenizer(" ".join(source.choices(words, k=num_tokens)), add_special_tokens=False).input_ids
        return tokenizer.decode(ids[:num_tokens])

    instruction, lines = text(point.num_shared_tokens), []
    for _ in range(point.num_rows):
        contents = (instruction, text(point.num_own_tokens), text(NUM_ANSWER_TOKENS))
        roles = ("system", "user", "assistant")
        messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        lines.append(json.dumps({"messages": messages}) + "\n")
    file = to / "rows.jsonl"
    file.write_text("".join(lines))
    return file


def own_run(data: Path, batch_size: int, rank: int) -> dict[str, float]:
    """Train with this engine, in this process."""
    loaded = load_model(resolve_model(None), Precision.EXACT)
    rows = tokenised(loaded.renderer, data)
    settings = TrainingSettings(
        epochs=1,
        batch_size=batch_size,
        learning_rate=2e-4,
        evals_per_epoch=1,
        checkpoint_steps=10_000,
        lora=LoraSettings.of_rank(rank),
    )
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            loaded,
            rows,
            rows[:1],
            settings,
            folder=Path(folder),
            run_key="growth",
            on_event=lambda event: seconds.append(event.seconds) if event.train_loss is not None else None,
        )
    return {"seconds": sum(seconds), "peak_rss_mb": result.peak_memory_bytes / 2**20}


def command_of(engine: str, point: Point, data: Path, arguments: argparse.Namespace) -> list[str]:
    """What trains a point with an engine."""
    if engine == "fettle":
        return [sys.executable, __file__, "--own-run", str(data), str(point.batch_size), str(point.rank)]
    command = [str(arguments.peer_python), str(arguments.peer_script), "--data", str(data), "--epochs", "1"]
    command += ["--model", str(converted_folder(resolve_model(None))), "--batch-size", str(point.batch_size)]
    return [*command, "--rank", str(point.rank), "--alpha", str(2 * point.rank), "--dtype", "fp32"]


def peer_gib(point: Point, vocabulary: int) -> float:
    """What the peer holds, about: logits of all tokens in several copies. 5.5 GB were measured with 816 tokens, 19.2 with 9,968."""
    return 4 + 8 * point.num_batch_tokens * vocabulary * 4 / 2**30


def measured(engine: str, point: Point, data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run in a process of its own; `out_of_memory` where the kernel ended it."""
    done = subprocess.run(command_of(engine, point, data, arguments), check=False, capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL:
        return {"out_of_memory": True}
    if done.returncode:
        sys.exit(f"{engine} failed at {point}:\n{done.stderr[-2000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return {"seconds": said["seconds"], "mib": said["peak_rss_mb"]}


def measure_what_is_missing(results: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Rounds of all points; each run is written down as soon as it is there."""
    tokenizer, words = load_tokenizer(resolve_model(None)), bundled_words()
    available = arguments.peer_memory or 0.8 * psutil.virtual_memory().available / 2**30
    for number in range(1, arguments.rounds + 1):
        for point in (point for sweep in arguments.sweeps for point in points(sweep, arguments.lengths)):
            for engine in ENGINES if arguments.peer_python else ["fettle"]:
                runs = [
                    r for r in results if (r["engine"], r["sweep"], r["value"]) == (engine, point.sweep, point.value)
                ]
                if len(runs) >= number or any(run.get("out_of_memory") for run in runs):
                    continue
                if engine == "trl" and (needed := peer_gib(point, len(tokenizer))) > available:
                    print(f"{engine:7} {point.sweep} {point.value}: left out, it would need about {needed:.0f} GiB")
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    data = write_rows(point, tokenizer, words, Path(folder))
                    run = measured(engine, point, data, arguments)
                results.append({"engine": engine, "sweep": point.sweep, "value": point.value} | run)
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(arguments.out, json.dumps(results, indent=1) + "\n")
                told = "out of memory" if "seconds" not in run else f"{run['seconds']:8.2f} s  {run['mib']:7,.0f} MiB"
                print(f"round {number}  {engine:7} {point.sweep:14} {point.value:5}  {told}", flush=True)


def panels(results: list[dict[str, Any]]) -> list[Panel]:
    """One for each sweep that something was measured of."""
    found = []
    for sweep, (title, axis) in TITLES.items():
        curves = []
        for engine, name in ENGINES.items():
            values = sorted(
                {r["value"] for r in results if (r["engine"], r["sweep"]) == (engine, sweep) and "seconds" in r}
            )
            points = [(value, median_seconds(results, engine, sweep, value)) for value in values]
            if points:
                curves.append(Curve(name, tuple(points)))
        if curves:
            found.append(Panel(title, axis, tuple(curves)))
    return found


def median_seconds(results: list[dict[str, Any]], engine: str, sweep: str, value: int) -> float:
    """Over the rounds."""
    return statistics.median(
        r["seconds"] for r in results if (r["engine"], r["sweep"], r["value"]) == (engine, sweep, value)
    )


def main() -> None:
    """Measure what is missing, print the medians, draw them."""
    arguments = parse_arguments()
    if arguments.own_run:
        data, batch_size, rank = arguments.own_run
        print(json.dumps(own_run(Path(data), int(batch_size), int(rank))))
        return
    if bool(arguments.peer_python) != bool(arguments.peer_script):
        sys.exit("growth.py: the peer needs both, --peer-python and --peer-script")
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    measure_what_is_missing(results, arguments)
    for panel in panels(results):
        for curve in panel.curves:
            told = ", ".join(f"{value}: {seconds:.2f}" for value, seconds in curve.points)
            print(f"{panel.title}, {panel.axis}, {curve.name}, seconds: {told}")
    if arguments.chart:
        write_atomically(arguments.chart, drawn(panels(results)))


if __name__ == "__main__":
    main()
