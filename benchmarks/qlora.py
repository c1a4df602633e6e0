"""Memory and speed of an adapter beside a base model as given and in NF4, in turn, each in a process of its own.

The embedded model, batches of 16 rows of the bundled routing task, one thread. Peak memory is that of the training steps alone;
what loading takes before is told apart. On a busy machine the seconds of the processor tell more than those of the clock.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/qlora.py --rounds 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fettle.models.load import load_model
from fettle.models.nf4 import num_weight_bytes
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from fettle.study.plan import tokenise
from fettle.study.prepare import prepare
from fettle.study.settings import StudySettings
from fettle.training.accumulate import add_gradients
from fettle.training.batches import batch_at
from fettle.training.memory import forget_peak_memory, peak_memory_bytes
from fettle.training.settings import Method, TrainingSettings
from fettle.training.trainable import trainable

NUM_STEPS = 5
MIB = 2**20


def measure(method: Method, precision: Precision, micro_batch_tokens: int) -> dict[str, float]:
    """One process: load, take some steps, and say what they took."""
    training = TrainingSettings(method=method, micro_batch_tokens=micro_batch_tokens)
    started = time.perf_counter()
    loaded = load_model(resolve_model(None), precision, method.base_weights)
    load_seconds, load_peak = time.perf_counter() - started, peak_memory_bytes()
    rows = tokenise(loaded.renderer, prepare(StudySettings(examples=Path("example:routing"))).split).train
    trainable(loaded, training)
    forget_peak_memory()
    seconds, processor_seconds = [], []
    for step in range(NUM_STEPS):
        batch = [rows[index] for index in batch_at(step, num_examples=len(rows), batch_size=16, seed=0)]
        started, processor_started = time.perf_counter(), time.process_time()
        add_gradients(loaded.model, batch, max_tokens=training.micro_batch_tokens)
        seconds.append(time.perf_counter() - started)
        processor_seconds.append(time.process_time() - processor_started)
    return {
        "weights_mib": num_weight_bytes(loaded.model) / MIB,
        "load_seconds": load_seconds,
        "load_peak_mib": load_peak / MIB,
        "step_seconds": statistics.median(seconds[1:]),
        "step_processor_seconds": statistics.median(processor_seconds[1:]),
        "step_peak_mib": peak_memory_bytes() / MIB,
    }


def main() -> None:
    """Measure all in turn, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precisions", nargs="+", default=["exact", "fast"])
    parser.add_argument("--micro-batch-tokens", type=int, default=4096)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        method, precision = arguments.one
        print(json.dumps(measure(Method(method), Precision(precision), arguments.micro_batch_tokens)))
        return
    for number in range(arguments.rounds):
        for precision in arguments.precisions:
            for method in (Method.LORA, Method.QLORA):
                words = ["--one", method.value, precision, "--micro-batch-tokens", str(arguments.micro_batch_tokens)]
                done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
                figures = json.loads(done.stdout.splitlines()[-1])
                told = "  ".join(f"{name} {value:,.2f}" for name, value in figures.items())
                print(f"round {number + 1}  {method.value:5}  {precision:5}  {told}", flush=True)


if __name__ == "__main__":
    main()
