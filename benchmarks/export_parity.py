"""Whether an exported model answers as the served one does: token log-probabilities of the embedded model, beside their own noise.

A real `fettle serve` trains one of the adapters of `desks.py`, and `fettle models export` writes it in all formats. The engine that
serves answers questions that the adapter has not seen, and the same answers are given to each exported model, loaded as other
programs load it and computed in fp32. All are held against base and adapter computed in float64. The noise is measured: how far
from that the served model is, asked alone and with many at once, and PEFT in fp32 with the folder of the store.

    .venv/bin/python benchmarks/export_parity.py --json

Exit code 1: what is exported in full precision is further away than the noise (root mean square over all tokens). Types with fewer
bits are printed, and the base model, which shows what a difference would be.
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
from dataclasses import asdict
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
from parity import Distance, Served, distance, said, said_by, served

Logits = Callable[[list[int]], torch.Tensor]
EXPORTS = {
    "adapter": ["--format", "adapter"],
    "merged f32": ["--format", "merged", "--type", "f32"],
    "gguf f32": ["--format", "gguf", "--type", "f32"],
    "merged bf16": ["--format", "merged", "--type", "bf16"],
    "gguf q8_0": ["--format", "gguf", "--type", "q8_0"],
}
_IN_FULL = ("adapter", "merged f32", "gguf f32")


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
    exact = said_by(together, peft_logits(base, kept.folder, is_exact=True))
    own = {
        "alone": distance(said(alone), exact) if _are_equal(together, alone) else None,
        "at once": distance(said(together), exact),
        "peft": distance(said_by(together, peft_logits(base, kept.folder)), exact),
    }
    noise = max(each.root_mean_square for each in own.values() if each is not None)
    found: dict[str, Distance] = {}
    for export, options in EXPORTS.items():
        out = folder / (export.replace(" ", "-") + (".gguf" if "gguf" in export else ""))
        export_model(home, name, out, options)
        found[export] = distance(said_by(together, exported_logits(export, base, out)), exact)
        print(f"{export}: {found[export]}", file=sys.stderr, flush=True)
    found["base model"] = distance(said_by(together, folder_logits(base)), exact)
    result = {
        "precision": loaded.precision.value,
        "num_answers": len(prompts),
        "num_tokens": len(exact),
        "noise_nats": {name: each and asdict(each) for name, each in own.items()},
        "distance_nats": {name: asdict(each) for name, each in found.items()},
    }
    return result, all(found[export].root_mean_square <= noise for export in _IN_FULL)


def _are_equal(some: Sequence[Served], others: Sequence[Served]) -> bool:
    """Whether the answers are the same, token for token: a tie may be broken by rounding."""
    return [answer.token_ids for answer in some] == [answer.token_ids for answer in others]


def questions(count: int) -> list[Prompt]:
    """Messages of the inbox that the adapter was not trained on."""
    return [
        Prompt(
            example_id=row["id"],
            messages=(Message(role="system", content=INSTRUCTION), Message(role="user", content=row["message"])),
        )
        for row in inbox()[:count]
    ]


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


def peft_logits(base: Path, adapter: Path, *, is_exact: bool = False) -> Logits:
    """An adapter's folder by PEFT; `is_exact`: computed in float64."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32), str(adapter)
    )
    return _logits(model.double() if is_exact else model)


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


if __name__ == "__main__":
    main()
