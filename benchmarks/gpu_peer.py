"""The peer of gpu.py: TRL's SFTTrainer with PEFT on one GPU, in bf16, with Liger's kernels or without.

It imports nothing of this project, so that the peer can have an environment of its own: torch, trl, peft, datasets, and
liger-kernel for `--liger`. The same adapter, batches and loss as gpu.py; a step is timed from its beginning to the end of its work.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

NUM_WARM_UP = 3
"""Steps that are not counted, as in gpu.py."""


class StepTimes(TrainerCallback):
    """Seconds of each optimiser step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Take the time."""
        self._started = now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Take it again."""
        self.seconds.append(now() - self._started)


def now() -> float:
    """Seconds, once the GPU has nothing left to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def trained(arguments: argparse.Namespace, scratch: str) -> dict[str, float]:
    """Train one epoch; the figures that gpu.py tells of this engine."""
    chats = [json.loads(line)["messages"] for line in arguments.data.read_text().splitlines()]
    rows = Dataset.from_list([{"prompt": chat[:-1], "completion": chat[-1:]} for chat in chats])
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    times = StepTimes()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype),
        args=SFTConfig(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=arguments.batch_size,
            learning_rate=1e-5,
            max_length=None,
            completion_only_loss=True,
            gradient_checkpointing=False,
            use_liger_kernel=arguments.liger,
            bf16=on_gpu,
            use_cpu=not on_gpu,
            logging_steps=1000,
            disable_tqdm=True,
            save_strategy="no",
            report_to=[],
        ),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(arguments.model),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[times],
    )
    trainer.train()
    step_seconds = statistics.median(times.seconds[NUM_WARM_UP:])
    num_tokens = arguments.batch_size * statistics.mean(map(len, trainer.train_dataset["input_ids"]))
    return {
        "tokens_per_s": num_tokens / step_seconds,
        "seconds_of_first_step": times.seconds[0],
        "seconds_of_a_step": step_seconds,
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else 0.0,
    }


def main() -> None:
    """Train, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder in Hugging Face format")
    parser.add_argument("--data", type=Path, required=True, help='JSONL, one {"messages": [...]} a line')
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--liger", action="store_true", help="with Liger's kernels")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    disable_progress_bars()
    stdout, sys.stdout = sys.stdout, sys.stderr  # the line is all that goes there
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(trained(arguments, scratch)), file=stdout)


if __name__ == "__main__":
    main()
