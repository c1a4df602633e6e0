"""Whether an exported model answers as the served one does: token log-probabilities of the embedded model, beside their own noise.

A real `fettle serve` trains one of the adapters of `desks.py`, and `fettle models export` writes it in all formats. The engine that
serves answers questions that the adapter has not seen, and the same answers are given to each exported model, loaded as other
programs load it and computed in fp32. The noise is measured: how much the log-probabilities of the served model move when it
answers many at once instead of one after the other, and how far they are from those of PEFT with the folder of the store.

    .venv/bin/python benchmarks/export_parity.py --json

Exit code 1: what is exported in full precision is further from the served model than the noise allows (twice, where weights are
merged: they are rounded once more). Types with fewer bits are printed, and the base model, which shows what a difference would be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from openai import OpenAI

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the comparison that the tests use as well

from chats import INSTRUCTION, NUM_NEW, inbox, serving
from desks import PHRASES, Hyperparameters, train_desks
from fettle.export.kept import kept_model
from fettle.models.load import converted_folder, load_model
from fettle.records import Message, Prompt
from fettle.store.database import Store
from parity import ROUNDINGS, Served, differences, served

Logits = Callable[[list[int]], torch.Tensor]
EXPORTS = {
    "adapter": ["--format", "adapter"],
    "merged f32": ["--format", "merged", "--type", "f32"],
    "gguf f32": ["--format", "gguf", "--type", "f32"],
    "merged bf16": ["--format", "merged", "--type", "bf16"],
    "gguf q8_0": ["--format", "gguf", "--type", "q8_0"],
}
_EXACT = {"adapter": 1.0, "merged f32": ROUNDINGS, "gguf f32": ROUNDINGS}
"""So many times the noise is allowed."""


def main() -> None:
    """Train, export, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="print one line")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        name = trained_model(home, options.threads)
        result, is_right = compared(home, name, Path(folder), options.questions)
    print(json.dumps({"threads": options.threads, **result}, indent=None if options.json else 2))
    sys.exit(0 if is_right else 1)


def trained_model(home: Path, threads: int) -> str:
    """The name of a model that was tuned by a job of a server with this FETTLE_HOME."""
    command = [sys.executable, "-m", "fettle", "serve", "--without-keys", "--workers", "1"]
    with serving(command, threads, home=home) as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        [desk] = train_desks(client, home, list(PHRASES)[:1], Hyperparameters())
    return desk.model


def compared(home: Path, name: str, folder: Path, num_questions: int) -> tuple[dict[str, Any], bool]:
    """The figures, and whether the exports in full precision are within the noise."""
    store = Store(home)
    kept = kept_model(store, name)
    store.close()
    loaded, prompts, base = load_model(kept.base), questions(num_questions), converted_folder(kept.base)
    together, alone = (
        served(loaded, kept.folder, prompts, max_new_tokens=NUM_NEW, alone=alone) for alone in (False, True)
    )
    own = {"batch": moved(together, alone), "peft": differences(together, peft_logits(base, kept.folder))}
    noise = max(float(each.max()) for each in own.values())
    found: dict[str, torch.Tensor] = {}
    for export, options in EXPORTS.items():
        out = folder / (export.replace(" ", "-") + (".gguf" if "gguf" in export else ""))
        export_model(home, name, out, options)
        found[export] = differences(together, exported_logits(export, base, out))
        print(f"{export}: {_told(found[export])}", file=sys.stderr, flush=True)
    found["base model"] = differences(together, folder_logits(base))
    result = {
        "precision": loaded.precision.value,
        "num_answers": len(prompts),
        "num_tokens": sum(len(answer.token_ids) for answer in together),
        "noise_nats": {each: _told(nats) for each, nats in own.items()},
        "difference_nats": {each: _told(nats) for each, nats in found.items()},
    }
    return result, all(float(found[export].max()) <= times * noise for export, times in _EXACT.items())


def questions(count: int) -> list[Prompt]:
    """Messages of the inbox that the adapter was not trained on."""
    return [
        Prompt(
            example_id=row["id"],
            messages=(Message(role="system", content=INSTRUCTION), Message(role="user", content=row["message"])),
        )
        for row in inbox()[:count]
    ]


def moved(together: Sequence[Served], alone: Sequence[Served]) -> torch.Tensor:
    """By how much log-probabilities differ between the same answers, as far as they are the same [T of all]."""
    found = []
    for one, other in zip(together, alone, strict=True):
        pairs = zip(one.token_ids, other.token_ids, strict=False)
        count = next(
            (number for number, (a, b) in enumerate(pairs) if a != b), min(len(one.token_ids), len(other.token_ids))
        )
        found.append((one.log_probs[:count] - other.log_probs[:count]).abs())
    return torch.cat(found)


def export_model(home: Path, name: str, out: Path, options: Sequence[str]) -> None:
    """Run the command."""
    command = [sys.executable, "-m", "fettle", "models", "export", name, "--out", str(out), *options]
    done = subprocess.run(
        command, env=os.environ | {"FETTLE_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[2:])} failed:\n{done.stdout}{done.stderr}")


def exported_logits(export: str, base: Path, out: Path) -> Logits:
    """An exported model, loaded as anybody would."""
    if export == "adapter":
        return peft_logits(base, out)
    return gguf_logits(out) if out.suffix == ".gguf" else folder_logits(out)


def peft_logits(base: Path, adapter: Path) -> Logits:
    """An adapter's folder by PEFT."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    return _logits(
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32), str(adapter))
    )


def folder_logits(folder: Path) -> Logits:
    """A model's folder by transformers."""
    from transformers import AutoModelForCausalLM

    return _logits(AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32))


def gguf_logits(file: Path) -> Logits:
    """A GGUF file by transformers, which makes floats of its weights."""
    from transformers import AutoModelForCausalLM, GgufConfig

    with redirect_stderr(StringIO()):  # its progress bar cannot be switched off otherwise
        model = AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
    return _logits(model)


def _logits(model: Any) -> Logits:
    def logits(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0]

    return logits


def _told(nats: torch.Tensor) -> dict[str, float]:
    return {"furthest": float(nats.max()), "mean": float(nats.mean())}


if __name__ == "__main__":
    main()
