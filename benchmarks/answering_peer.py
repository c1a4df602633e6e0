"""The peer of answering.py, transformers' batched `generate`, and the measurement that both sides go through.

It imports nothing of this project, so that the peer can have an environment of its own; torch, transformers and peft are enough.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

Chat = list[dict[str, str]]

_WARM_UP: list[Chat] = [[{"role": "user", "content": text}] for text in ("Good morning!", "How are you today?")]
_NUM_FIRST_TOKENS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Tokens of some answers and of what they answer."""

    num_prompt_tokens: int
    num_new_tokens: int


Answerer = Callable[[list[Chat], int], Counts]
"""Writes so many tokens after every chat, from messages to text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one process says of itself."""

    tokens_per_s: float
    """New tokens alone; everything from messages to text is in the time, loading is not."""
    tokens_per_cpu_s: float
    """The same by processor time, of all threads: what a busy machine changes least, with one thread."""
    first_token_s: float
    """Of one prompt alone, median over a few."""
    peak_mb: float
    """MiB that the process held at most, loading included; on a GPU those of its memory."""
    num_prompt_tokens: int


def measure(answer: Answerer, chats: list[Chat], num_new: int) -> Measured:
    """The speed of writing exactly `num_new` tokens after every chat, after a short warm-up with other prompts."""
    answer(_WARM_UP, 2)
    started, cpu_started = time.perf_counter(), time.process_time()
    counts = answer(chats, num_new)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    if counts.num_new_tokens != len(chats) * num_new:
        sys.exit(
            f"{counts.num_new_tokens} tokens were written, not {len(chats) * num_new}: the sides cannot be compared"
        )
    peak_mb = _peak_bytes() / 2**20
    waits = []
    for chat in chats[:_NUM_FIRST_TOKENS]:
        started = time.perf_counter()
        answer([chat], 1)
        waits.append(time.perf_counter() - started)
    return Measured(
        tokens_per_s=counts.num_new_tokens / seconds,
        tokens_per_cpu_s=counts.num_new_tokens / cpu_seconds,
        first_token_s=statistics.median(waits),
        peak_mb=peak_mb,
        num_prompt_tokens=counts.num_prompt_tokens,
    )


def _peak_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError, ValueError):  # of this program alone; what `getrusage` says can be its parent's
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peer_answerer(arguments: argparse.Namespace) -> Answerer:
    """As a user of transformers and PEFT would write it; nothing ends a row early."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[arguments.dtype]
    base = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype)
    if torch.cuda.is_available():
        base = base.to("cuda")  # pyright: ignore[reportArgumentType] (a device string is accepted)
    model = PeftModel.from_pretrained(base, arguments.adapter)
    if arguments.merged:
        model = model.merge_and_unload()
    model.eval()
    base.generation_config.eos_token_id = None

    def answer(chats: list[Chat], num_new: int) -> Counts:
        num_prompt_tokens = num_new_tokens = 0
        for first in range(0, len(chats), arguments.batch):
            inputs = tokenizer.apply_chat_template(
                chats[first : first + arguments.batch],
                add_generation_prompt=True,
                padding=True,
                return_tensors="pt",
                return_dict=True,
            ).to(base.device)
            out = model.generate(**inputs, max_new_tokens=num_new, do_sample=False, pad_token_id=tokenizer.pad_token_id)
            new = out[:, inputs["input_ids"].shape[1] :]
            tokenizer.batch_decode(new, skip_special_tokens=True)
            num_prompt_tokens += int(inputs["attention_mask"].sum())
            num_new_tokens += new.numel()
        return Counts(num_prompt_tokens=num_prompt_tokens, num_new_tokens=num_new_tokens)

    return answer


def main() -> None:
    """Measure the peer; one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder in Hugging Face format")
    parser.add_argument("--adapter", type=Path, required=True, help="PEFT folder")
    parser.add_argument("--prompts", type=Path, required=True, help='JSON lines of {"messages": [...]}')
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--merged", action="store_true", help="merge the adapter into the weights first")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rows", type=int, help="of the prompts, evenly spread; default: all")
    parser.add_argument("--new-tokens", type=int, default=32)
    arguments = parser.parse_args()
    chats = [json.loads(line)["messages"] for line in arguments.prompts.read_text().splitlines()]
    chats = chats[:: max(1, len(chats) // (arguments.rows or len(chats)))]
    print(json.dumps(asdict(measure(peer_answerer(arguments), chats, arguments.new_tokens))))


if __name__ == "__main__":
    main()
