"""Training speed and memory: this engine beside TRL's SFTTrainer with PEFT, in turn, each run in a process of its own.

Both train a LoRA adapter (rank 16 on all linear layers, batches of 16, completion-only loss) on the same rows of Banking77.
*short*: the rows with their one-line instruction. *long*: with an instruction that lists all 77 labels. Runs follow each other
in rounds, so that a machine that gets slower makes all of them slower; what counts is the median over the rounds. The peer has
its own environment.

    .venv/bin/python benchmarks/training.py --shared ../shared --peer-python .venv-peers/bin/python --json

`ratio_short` and `ratio_long` compare this engine as it comes with the peer as it comes (fp32); those that end in `_bf16` compare
it, as it comes, with the peer in bf16, those in `_fp32` both in fp32. As it comes this engine takes the precision that is faster
on the processor at hand; the table says which. A peer that the machine's memory does not hold takes its batch in pieces.
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

import psutil

from fettle.chat.renderer import ChatRenderer
from fettle.examples.read import read_examples
from fettle.models.load import converted_folder, load_model
from fettle.models.precision import Precision, choose_precision
from fettle.models.resolve import resolve_model
from fettle.records import TokenisedExample
from fettle.settings import keep_freed_memory
from fettle.training.loop import train
from fettle.training.settings import TrainingSettings

RATE = 2e-4
BATCH = 16
DTYPE = {Precision.EXACT: "fp32", Precision.FAST: "bf16"}


@dataclass(frozen=True, slots=True)
class Runner:
    """One of the programs that are compared."""

    engine: str
    precision: Precision

    def __str__(self) -> str:
        """As the table calls it."""
        return f"{self.engine} {DTYPE[self.precision]}"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with data/routing_banking77 and bench/peers_sft.py")
    parser.add_argument("--peer-python", type=Path, help="Python with torch, trl, peft; left out: no peer runs")
    parser.add_argument("--workloads", nargs="+", choices=["short", "long"], default=["short", "long"])
    parser.add_argument("--rows", type=int, nargs=2, default=[128, 32], metavar=("SHORT", "LONG"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument("--own-run", nargs=2, metavar=("DATA", "PRECISION"), help=argparse.SUPPRESS)
    return parser.parse_args()


def long_instruction(folder: Path) -> str:
    """The system message that lists all labels of a data folder."""
    labels = json.loads((folder / "labels.json").read_text())
    return "Answer with the one label that fits the customer's message. The labels are: " + ", ".join(labels) + "."


def write_workload(shared: Path, name: str, count: int, to: Path) -> Path:
    """Chats as JSON lines, one file a workload."""
    folder = shared / "data" / "routing_banking77"
    examples = list(read_examples(folder / "train.jsonl").examples)
    instruction = long_instruction(folder)
    file = to / f"{name}.jsonl"
    lines = []
    for example in random.Random(0).sample(examples, count):
        messages = [{"role": message.role, "content": message.content} for message in example.messages]
        if name == "long":
            own = [message for message in messages if message["role"] != "system"]
            messages = [{"role": "system", "content": instruction}, *own]
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    file.write_text("".join(lines))
    return file


def own_run(data: Path, precision: Precision) -> dict[str, float]:
    """Train with this engine, in this process; what the peer's script says of itself too."""
    loaded = load_model(resolve_model(None), precision)
    rows = tokenised(loaded.renderer, data)
    settings = TrainingSettings(
        epochs=1, batch_size=BATCH, learning_rate=RATE, evals_per_epoch=1, checkpoint_steps=10_000
    )
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            loaded,
            rows,
            rows[:1],
            settings,
            folder=Path(folder),
            run_key="benchmark",
            on_event=lambda event: seconds.append(event.seconds) if event.train_loss is not None else None,
        )
    return {
        "examples_per_s": len(rows) / sum(seconds),
        "tokens_per_s": result.num_processed_tokens / sum(seconds),
        "peak_rss_mb": result.peak_memory_bytes / 2**20,
    }


def tokenised(renderer: ChatRenderer, data: Path) -> tuple[TokenisedExample, ...]:
    """The rows with their loss."""
    return renderer.rows_of(read_examples(data).examples)


def run_once(runner: Runner, data: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """One run in a process of its own."""
    if runner.engine == "fettle":
        command = [sys.executable, __file__, "--own-run", str(data), runner.precision.value]
        return result_of(subprocess.run(command, check=False, capture_output=True, text=True))
    script = arguments.shared / "bench" / "peers_sft.py"
    command = [str(arguments.peer_python), str(script), "--model", str(converted_folder(resolve_model(None)))]
    command += ["--data", str(data), "--lr", str(RATE), "--dtype", DTYPE[runner.precision]]
    for pieces in peer_pieces(runner, data):
        sizes = ["--batch-size", str(BATCH // pieces), "--grad-accum", str(pieces)]
        finished = subprocess.run([*command, *sizes], check=False, capture_output=True, text=True)
        if finished.returncode != -signal.SIGKILL:
            return result_of(finished)
        print(f"{runner} ran out of memory with {BATCH // pieces} rows at once", flush=True)
        _TOO_LARGE.setdefault((str(data), str(runner)), set()).add(pieces)
    sys.exit(f"{runner} does not fit into this machine's memory")


_TOO_LARGE: dict[tuple[str, str], set[int]] = {}
"""By data and runner: the numbers of pieces that were too few."""


def peer_pieces(runner: Runner, data: Path) -> list[int]:
    """In how many pieces the peer takes a batch: whole, and where the machine's memory does not hold that, by accumulation."""
    return [pieces for pieces in (1, 2, 4, 8, 16) if pieces not in _TOO_LARGE.get((str(data), str(runner)), set())]


def result_of(finished: subprocess.CompletedProcess[str]) -> dict[str, float]:
    """What a run says of itself in its last line."""
    if finished.returncode:
        sys.exit(f"{finished.args[1]} failed:\n{finished.stderr[-2000:]}")
    return json.loads(finished.stdout.strip().splitlines()[-1])


def runners(arguments: argparse.Namespace) -> list[Runner]:
    """In the order in which they take their turns."""
    own = {choose_precision(Precision.AUTO), Precision.EXACT}
    found = [Runner("fettle", precision) for precision in Precision if precision in own]
    if arguments.peer_python:
        found += [Runner("trl", Precision.EXACT), Runner("trl", Precision.FAST)]
    return found


def ratios(medians: dict[str, dict[Runner, float]]) -> dict[str, float]:
    """This engine's examples a second over the peer's."""
    found: dict[str, float] = {}
    as_it_comes = choose_precision(Precision.AUTO)
    pairs = {
        "": (as_it_comes, Precision.EXACT),
        "_bf16": (as_it_comes, Precision.FAST),
        "_fp32": (Precision.EXACT, Precision.EXACT),
    }
    for workload, speeds in medians.items():
        for suffix, (own, peers) in pairs.items():
            ours, theirs = speeds.get(Runner("fettle", own)), speeds.get(Runner("trl", peers))
            if ours and theirs:
                found[f"ratio_{workload}{suffix}"] = round(ours / theirs, 2)
    return found


def main() -> None:
    """Run all of them in turn and print a table."""
    arguments = parse_arguments()
    if arguments.own_run:
        keep_freed_memory()  # as the command does
        print(json.dumps(own_run(Path(arguments.own_run[0]), Precision(arguments.own_run[1]))))
        return
    if arguments.shared is None:
        sys.exit("training.py: give --shared, the folder with data and the peer's script")
    medians: dict[str, dict[Runner, float]] = {}
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for workload in arguments.workloads:
            count = arguments.rows[0 if workload == "short" else 1]
            data = write_workload(arguments.shared, workload, count, Path(folder))
            measured: dict[Runner, list[dict[str, float]]] = {runner: [] for runner in runners(arguments)}
            for number in range(1, arguments.rounds + 1):
                for runner, results in measured.items():
                    load = psutil.cpu_percent(interval=1)  # this process sleeps meanwhile
                    results.append(run_once(runner, data, arguments))
                    speed, peak = results[-1]["examples_per_s"], results[-1]["peak_rss_mb"]
                    line = f"{workload:6} round {number}  {runner!s:12}  {speed:7.2f} examples/s  {peak:7,.0f} MiB"
                    print(f"{line}  (others used {load:.0f} % of the processor before it)", flush=True)
            medians[workload] = {
                runner: statistics.median(result["examples_per_s"] for result in results)
                for runner, results in measured.items()
            }
            for runner, results in measured.items():
                peak = statistics.median(result["peak_rss_mb"] for result in results)
                memory[f"{workload} {runner}"] = round(peak)
                print(
                    f"{workload:6} median   {runner!s:12}  {medians[workload][runner]:7.2f} examples/s  {peak:7,.0f} MiB"
                )
    found = ratios(medians)
    for name, ratio in found.items():
        print(f"{name:18} {ratio:6.2f}")
    if arguments.json:
        speeds = {f"{w} {r}": round(speed, 3) for w, by_runner in medians.items() for r, speed in by_runner.items()}
        print(json.dumps(found | {"examples_per_s": speeds, "peak_rss_mb": memory, "rounds": arguments.rounds}))


if __name__ == "__main__":
    main()
