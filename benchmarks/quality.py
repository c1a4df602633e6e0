"""Held-out loss and accuracy after the same examples: this engine beside TRL's SFTTrainer with PEFT.

Both train a LoRA adapter (same rank, alpha, targets, batch size, epochs, peak learning rate) on the same rows of Banking77; both
adapters are then judged by the same code: constrained to the 77 labels, on the same test rows. The peer has its own environment.

    .venv/bin/python benchmarks/quality.py --shared ../shared --peer-python .venv-peers/bin/python --seeds 0 1 --out reports/quality

What has been trained or judged under `--out` with the same data and settings is not done again, so a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
from pathlib import Path

from fettle.answering.engines.local import LocalEngine
from fettle.examples.read import read_examples
from fettle.files import sha256_of_file, sha256_of_json
from fettle.models.adapter import load_adapter, unload_adapters
from fettle.models.load import LoadedModel, converted_folder, load_model
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from fettle.records import Example, Prompt
from fettle.statistics.intervals import mean_interval
from fettle.training.accumulate import mean_loss
from fettle.training.loop import train
from fettle.training.settings import TrainingSettings, derived_learning_rate


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder with data/routing_banking77 and bench/peers_sft.py"
    )
    parser.add_argument(
        "--peer-python", type=Path, help="Python with torch, trl, peft; left out: only this engine runs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--rows", type=int, nargs=3, default=[1500, 300, 500], metavar=("TRAIN", "VALID", "TEST"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, help="peak, of both; left out: the one that a study derives")
    parser.add_argument("--precision", choices=["fast", "exact"], default="fast")
    parser.add_argument("--out", type=Path, default=Path("reports/quality"), help="where the adapters are kept")
    return parser.parse_args()


def sample(folder: Path, counts: list[int]) -> dict[str, list[Example]]:
    """Rows drawn with a fixed seed from each part."""
    parts = {}
    for name, count in zip(("train", "valid", "test"), counts, strict=True):
        examples = list(read_examples(folder / f"{name}.jsonl").examples)
        parts[name] = random.Random(0).sample(examples, min(count, len(examples)))
    return parts


def judged_once(
    loaded: LoadedModel, adapter: Path, test: list[Example], labels: list[str], kept: Path
) -> dict[str, object]:
    """What `judge` says, kept in a file beside the adapter."""
    weights = sha256_of_file(adapter / "adapter_model.safetensors")
    if kept.exists() and (found := json.loads(kept.read_text()))["weights"] == weights:
        return found["judged"]
    judged = judge(loaded, adapter, test, labels)
    kept.write_text(json.dumps({"weights": weights, "judged": judged}))
    return judged


def judge(loaded: LoadedModel, adapter: Path, test: list[Example], labels: list[str]) -> dict[str, object]:
    """Held-out loss per trained token, and accuracy with its interval."""
    peft = load_adapter(loaded, adapter, name="judged")
    loss = mean_loss(loaded.model, loaded.renderer.rows_of(test), batch_size=32, max_tokens=4096)
    unload_adapters(peft)
    engine = LocalEngine(loaded, adapter=adapter)
    prompts = [Prompt(example_id=e.id, messages=e.prompt) for e in test]
    texts = {}
    for batch in engine.batches(prompts):
        texts |= {a.example_id: a.text for a in engine.choose([prompts[index] for index in batch], labels)}
    engine.close()
    scores = [float(texts[example.id] == example.answer) for example in test]
    interval = mean_interval(scores, list(range(len(scores))))
    return {
        "loss": round(loss, 4),
        "accuracy": round(interval.estimate, 4),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
    }


def train_peer(arguments: argparse.Namespace, rate: float, model: Path, data: Path, out: Path, seed: int) -> float:
    """Run TRL in its own process, once; seconds of its training."""
    printed = out.with_suffix(".out")
    if not (out / "adapter_model.safetensors").exists():
        command = [str(arguments.peer_python), str(arguments.shared / "bench" / "peers_sft.py"), "--model", str(model)]
        command += ["--data", str(data), "--epochs", str(arguments.epochs), "--lr", str(rate)]
        command += ["--dtype", "bf16" if arguments.precision == "fast" else "fp32"]
        command += ["--seed", str(seed), "--output-dir", str(out)]
        printed.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return float(json.loads(printed.read_text().strip().splitlines()[-1])["seconds"])


def main() -> None:
    """Train both with every seed and print one line each, then the medians."""
    arguments = parse_arguments()
    folder = arguments.shared / "data" / "routing_banking77"
    labels = json.loads((folder / "labels.json").read_text())
    parts = sample(folder, arguments.rows)
    loaded = load_model(resolve_model(None), Precision(arguments.precision))
    rows = {name: loaded.renderer.rows_of(parts[name]) for name in ("train", "valid")}
    found: dict[str, list[dict[str, object]]] = {"fettle": [], "trl": []}
    rate = arguments.learning_rate or derived_learning_rate(loaded.model.num_parameters())
    lines = [{"messages": [{"role": m.role, "content": m.content} for m in e.messages]} for e in parts["train"]]
    key = sha256_of_json([lines, arguments.rows, arguments.epochs, rate, arguments.precision])
    out = arguments.out / f"{rate:g}-{key[:8]}"
    out.mkdir(parents=True, exist_ok=True)
    data = out / "train.jsonl"
    data.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    for seed in arguments.seeds:
        settings = TrainingSettings(epochs=arguments.epochs, learning_rate=rate, seed=seed)
        result = train(loaded, rows["train"], rows["valid"], settings, folder=out / f"fettle-{seed}", run_key=key)
        judged = judged_once(loaded, result.tuned, parts["test"], labels, out / f"fettle-{seed}.json")
        judged |= {"seconds": round(result.seconds)}
        found["fettle"].append(judged)
        print(json.dumps({"engine": "fettle", "seed": seed} | judged), flush=True)
        if arguments.peer_python:
            peer_out = out / f"trl-{seed}"
            seconds = train_peer(arguments, rate, converted_folder(loaded.source), data, peer_out, seed)
            judged = judged_once(loaded, peer_out, parts["test"], labels, out / f"trl-{seed}.json")
            judged |= {"seconds": round(seconds)}
            found["trl"].append(judged)
            print(json.dumps({"engine": "trl", "seed": seed} | judged), flush=True)
    for engine, results in found.items():
        if results:
            medians = {
                key: statistics.median(float(str(r[key])) for r in results) for key in ("loss", "accuracy", "seconds")
            }
            print(json.dumps({"engine": engine, "median of seeds": arguments.seeds} | medians))


if __name__ == "__main__":
    main()
