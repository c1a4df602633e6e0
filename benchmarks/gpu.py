"""Training speed and memory on a CUDA GPU: models of 135 million, 1 and 8 billion random weights, this engine beside TRL.

First the rate of a large matrix product, which is the ceiling; then, for each model, that the packed gradient is the plain one;
then steps of a LoRA adapter of rank 16 in bf16, each model in a process of its own. *own*: rows that share little, *shared*: rows
of the same length, most of it an instruction that all share. Tokens a second count all tokens of all examples, shared or not.
The share of the ceiling counts 4 operations a weight and token, as LoRA needs, and is told of *own*.

    .venv/bin/python benchmarks/gpu.py --json
    .venv/bin/python benchmarks/gpu.py --models 8B --peer-python .venv-peers/bin/python --peers trl trl-liger
    .venv/bin/python benchmarks/gpu.py --small    # the same code with a tiny model, on a processor

The peer is TRL's SFTTrainer with PEFT, with Liger's kernels or without (gpu_peer.py); it pads, and sees each row whole.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from fettle.models.adapter import LoraSettings, new_adapter, unload_adapters
from fettle.models.device import chosen_device
from fettle.models.load import LoadedModel, load_model, load_tokenizer
from fettle.models.lora_linear import as_peft_computes
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from fettle.records import TokenisedExample
from fettle.training.accumulate import add_gradients
from fettle.training.loop import train
from fettle.training.settings import TrainingSettings
from growth import Point, bundled_words, write_rows
from training import tokenised

MODELS = {  # hidden size, MLP, layers, query heads, key heads, vocabulary, tied
    "135M": (576, 1536, 30, 9, 3, 49_152, True),
    "1B": (2048, 8192, 16, 32, 8, 128_256, True),
    "8B": (4096, 14_336, 32, 32, 8, 128_256, False),
    "small": (64, 128, 2, 4, 2, 49_152, True),
}
PEER = Path(__file__).with_name("gpu_peer.py")
PEERS = {"trl": (), "trl-liger": ("--liger",)}
NUM_WARM_UP = 3
MOST_DIFFERENCE = {torch.bfloat16: 0.1, torch.float32: 1e-4}
"""Of the packed gradient from the plain one, relative."""


def workloads(*, small: bool) -> dict[str, Point]:
    """Rows of the same length, 8 steps of them."""
    batch, length = (2, 40) if small else (16, 512)
    return {
        "own": Point("own", 0, 8 * batch, batch, num_shared_tokens=length // 16, num_own_tokens=length),
        "shared": Point("shared", 1, 8 * batch, batch, num_shared_tokens=length, num_own_tokens=length // 16),
    }


def save_random(name: str, folder: Path) -> Path:
    """A model of a known shape with random weights, and the embedded model's tokenizer; the folder."""
    hidden, width, layers, heads, key_heads, vocabulary, tied = MODELS[name]
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=8192,
    )
    device = chosen_device()
    with device if device.type != "cpu" else nullcontext():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    load_tokenizer(resolve_model(None)).save_pretrained(folder)
    return folder


def ceiling(*, small: bool) -> float:
    """Operations a second of a large matrix product, the best of ten, in the number format that is trained in."""
    device, size = chosen_device(), 256 if small else 8192
    left, right = (torch.randn(size, size, device=device, dtype=dtype_of(device)) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        (left @ right).sum().item()  # waits for it
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def dtype_of(device: torch.device) -> torch.dtype:
    """bf16 on a GPU; fp32 elsewhere, where bf16 may be slow."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def require_exact(loaded: LoadedModel, rows: tuple[TokenisedExample, ...]) -> float:
    """How much the packed gradient differs from that of the model's own forward with PEFT's layers, relative."""
    peft = new_adapter(loaded, LoraSettings(), seed=0, name="exact")
    trained = [weight for weight in peft.parameters() if weight.requires_grad]
    with torch.no_grad():
        for number, weight in enumerate(trained):
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
            weight.add_(0.01 * noise.to(weight.device))
    found = []
    for plainly in (False, True):
        peft.zero_grad(set_to_none=True)
        with as_peft_computes(peft) if plainly else nullcontext():
            add_gradients(loaded.model, rows, max_tokens=4096, plainly=plainly)
        found.append(torch.cat([weight.grad.flatten() for weight in trained if weight.grad is not None]))
    unload_adapters(peft)
    loaded.model.requires_grad_(requires_grad=False)
    difference = float((found[0] - found[1]).norm() / found[1].norm())
    if not difference < MOST_DIFFERENCE[loaded.model.dtype]:
        sys.exit(f"the packed gradient differs from the plain one by {difference:.2g}")
    return difference


def own_run(folder: Path, data: Path, batch_size: int, micro_batch_tokens: int) -> dict[str, float]:
    """Show exactness, then train, in this process."""
    precision = Precision.FAST if chosen_device().type == "cuda" else Precision.EXACT
    started = time.perf_counter()
    loaded = load_model(resolve_model(str(folder)), precision)
    rows = tokenised(loaded.renderer, data)
    loaded_at = time.perf_counter()
    difference = require_exact(loaded, rows[:2])
    exact_at = time.perf_counter()
    seconds: list[float] = []
    settings = TrainingSettings(
        epochs=1,
        batch_size=batch_size,
        learning_rate=1e-5,
        evals_per_epoch=1,
        checkpoint_steps=10_000,
        micro_batch_tokens=micro_batch_tokens,
    )
    with tempfile.TemporaryDirectory() as temporary:
        result = train(
            loaded,
            rows,
            rows[:1],
            settings,
            folder=Path(temporary),
            run_key="gpu",
            on_event=lambda event: seconds.append(event.seconds) if event.train_loss is not None else None,
        )
    embedding = loaded.model.get_input_embeddings().weight.numel()
    num_weights = loaded.model.num_parameters() - embedding * (1 if loaded.model.config.tie_word_embeddings else 2)
    step_seconds = statistics.median(seconds[NUM_WARM_UP:])
    num_tokens = batch_size * sum(len(row.token_ids) for row in rows) / len(rows)
    return {
        "tokens_per_s": num_tokens / step_seconds,
        "operations_per_s": 4 * num_weights * num_tokens / step_seconds,
        "seconds_to_load": loaded_at - started,
        "seconds_to_show_exactness": exact_at - loaded_at,
        "seconds_of_first_step": seconds[0],
        "seconds_of_a_step": step_seconds,
        "peak_mib": result.peak_memory_bytes / 2**20,
        "gradient_difference": difference,
    }


def last_line(command: list[str]) -> dict[str, Any]:
    """What a run says of itself in its last line.

    It writes to files: a compiler's helpers that outlive it would keep a pipe open.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        done = subprocess.run(command, check=False, stdout=said, stderr=complained)
        said.seek(0)
        complained.seek(0)
        if done.returncode:
            sys.exit(f"{command[1]} failed:\n{complained.read()[-2000:]}")
        return json.loads(said.read().strip().splitlines()[-1])


def measured(name: str, folder: Path, arguments: argparse.Namespace, most: float) -> dict[str, dict[str, float]]:
    """One model: each workload, by this engine and the peer."""
    found = {}
    tokenizer, words = load_tokenizer(resolve_model(None)), bundled_words()
    for workload, point in workloads(small=arguments.small).items():
        data = write_rows(point, tokenizer, words, folder)
        size = str(point.batch_size)
        own = [sys.executable, __file__, "--own-run", str(folder), str(data), size, str(arguments.micro_batch_tokens)]
        ours = last_line(own)
        if workload == "own":
            ours["share_of_ceiling"] = ours["operations_per_s"] / most
        found[f"{name} {workload} fettle"] = ours
        for peer in arguments.peers:
            command = [str(arguments.peer_python), str(PEER), "--model", str(folder), "--data", str(data)]
            found[f"{name} {workload} {peer}"] = last_line([*command, "--batch-size", size, *PEERS[peer]])
    return found


def main() -> None:
    """Measure the ceiling and all models, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=["135M", "1B", "8B"], default=["135M", "1B", "8B"])
    parser.add_argument("--small", action="store_true", help="a tiny model and short rows, on any device")
    parser.add_argument("--peer-python", type=Path, help="Python with torch, trl, peft; left out: no peer runs")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=["trl-liger"])
    parser.add_argument("--micro-batch-tokens", type=int, default=4096, help="that this engine runs at once")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument("--own-run", nargs=4, metavar=("MODEL", "DATA", "BATCH", "TOKENS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.own_run:
        folder, data, *sizes = arguments.own_run
        print(json.dumps(own_run(Path(folder), Path(data), *map(int, sizes))))
        return
    if not arguments.peer_python:
        arguments.peers = []
    if not arguments.small and not torch.cuda.is_available():
        sys.exit("gpu.py: there is no CUDA GPU; --small runs the same code with a tiny model")
    most = ceiling(small=arguments.small)
    print(f"matrix product: {most / 1e12:.3g} TFLOP/s", flush=True)
    results: dict[str, dict[str, float]] = {}
    for name in ["small"] if arguments.small else arguments.models:
        with tempfile.TemporaryDirectory() as temporary:
            found = measured(name, save_random(name, Path(temporary)), arguments, most)
        for title, figures in found.items():
            told = "  ".join(f"{key} {value:,.4g}" for key, value in figures.items() if isinstance(value, int | float))
            print(f"{title:20} {told}", flush=True)
        results |= found
    if arguments.json:
        print(json.dumps({"ceiling": most} | results))


if __name__ == "__main__":
    main()
