"""Answering speed and memory: this engine beside transformers' batched `generate` with PEFT, in turn, each in a process of its own.

Both write exactly 32 tokens after each of 64 held-out prompts of Banking77, greedily, in batches of 32, with the same LoRA adapter
(rank 16 on all linear layers, random numbers). *short*: the prompts with their one-line instruction. *long*: with an instruction
that lists all 77 labels, nearly all of their tokens. The prompts come in the order of their lengths, which spares the peer padding.
Runs follow each other in rounds, so that a machine that gets slower makes all of them slower; what counts is the median over the
rounds. With more than one thread only a quiet machine gives figures: threads wait for the one that another program keeps from
running. With `--threads 1` the tokens a second of processor time can be compared on a busy one as well.

    .venv/bin/python benchmarks/answering.py --shared ../shared --json
    .venv/bin/python benchmarks/answering.py --shared ../shared --growth

`ratio_short` and `ratio_long` compare new tokens a second, this engine's over the peer's with the adapter attached, both in fp32;
those that end in `_bf16` likewise, and are left out where the processor does not multiply bf16 natively; `_cpu` is by processor
time. The peer is also measured with the adapter merged into the weights, and one by one on a few prompts. `--growth` shows how this
engine's speed grows with the batch and falls with the length of what the prompts share.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

from answering_peer import Answerer, Chat, Counts, Measured, measure
from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.local import BatchLimits, LocalEngine
from fettle.chat.renderer import ChatRenderer
from fettle.examples.read import read_examples
from fettle.models.adapter import LoraSettings, new_adapter, save_adapter, unload_adapters
from fettle.models.load import LoadedModel, converted_folder, load_model, load_tokenizer
from fettle.models.precision import Precision, choose_precision
from fettle.models.resolve import resolve_model
from fettle.models.shared_prefix import common_prefix_length
from fettle.records import Message, Prompt
from fettle.settings import keep_freed_memory
from training import DTYPE, Runner, long_instruction

NUM_NEW = 32
PEERS: dict[str, tuple[str, ...]] = {
    "attached": (),
    "merged": ("--merged",),
    "one by one": ("--batch", "1", "--rows", "4"),  # slow, and as fast with more
}
"""Ways of using the peer, with the options of its program that come last."""
GROWTH_BATCHES = (1, 8, 32, 64)
GROWTH_PREFIXES = (64, 256, 1024, 4096)
_SPREAD_OF_B = 0.01
"""Standard deviation of the random numbers; the speed does not depend on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one process is given."""

    prompts: Path
    adapter: Path
    batch: int


class Unstopped(LoadedModel):
    """A model none of whose tokens ends an answer, so that both sides write equally many."""

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """None."""
        return frozenset()


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with data/routing_banking77")
    parser.add_argument("--peer-python", type=Path, default=Path(sys.executable), help="default: this one")
    parser.add_argument("--engines", nargs="+", choices=list(PEERS), default=list(PEERS), help="peers to measure")
    parser.add_argument("--precisions", nargs="+", choices=["exact", "fast"], help="default: what is native here")
    parser.add_argument("--workloads", nargs="+", choices=["short", "long"], default=["short", "long"])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of every process; default: one per core")
    parser.add_argument("--growth", action="store_true", help="measure this engine alone, over batches and prefixes")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument(
        "--own-run", nargs=4, metavar=("PROMPTS", "ADAPTER", "BATCH", "PRECISION"), help=argparse.SUPPRESS
    )
    return parser.parse_args()


def held_out_messages(shared: Path, count: int) -> list[str]:
    """Messages of the test split, longest first."""
    examples = list(read_examples(shared / "data" / "routing_banking77" / "test.jsonl").examples)
    chosen = random.Random(0).sample(examples, count)
    return sorted((example.messages[-2].content for example in chosen), key=len, reverse=True)


def instruction_of(shared: Path, workload: str) -> str:
    """The system message of a workload."""
    folder = shared / "data" / "routing_banking77"
    if workload == "short":
        return next(iter(read_examples(folder / "test.jsonl").examples)).messages[0].content
    return long_instruction(folder)


def instruction_of_length(shared: Path, renderer: ChatRenderer, num_tokens: int) -> str:
    """A system message with which prompts share about so many tokens, made of customers' messages."""
    empty = [renderer.prompt_tokens((Message(role="system", content=""), _said(text))) for text in ("A", "B")]
    examples = read_examples(shared / "data" / "routing_banking77" / "train.jsonl").examples
    tokens = renderer.encode(" ".join(example.messages[-2].content for example in examples[:1000]))
    return renderer.decode(tokens[: num_tokens - common_prefix_length(empty)])


def _said(text: str) -> Message:
    return Message(role="user", content=text)


def write_prompts(instruction: str, messages: list[str], file: Path) -> Path:
    """Chats as JSON lines, up to the answer."""
    lines = []
    for message in messages:
        chat = [{"role": "system", "content": instruction}, {"role": "user", "content": message}]
        lines.append(json.dumps({"messages": chat}, ensure_ascii=False) + "\n")
    file.write_text("".join(lines))
    return file


def write_adapter(to: Path) -> Path:
    """A PEFT folder with an adapter that changes something: its B, zero when it is made, holds small random numbers."""
    loaded = load_model(resolve_model(None), Precision.EXACT)
    model = new_adapter(loaded, LoraSettings(), seed=0, name="random")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * _SPREAD_OF_B)
    save_adapter(model, to, name="random")
    unload_adapters(model)
    return to


def own_answerer(work: Work, precision: Precision) -> Answerer:
    """This engine, as a study uses it."""
    loaded = load_model(resolve_model(None), precision)
    unstopped = Unstopped(loaded.source, loaded.model, loaded.renderer, loaded.precision, loaded.plain_reason)
    engine = LocalEngine(unstopped, adapter=work.adapter, limits=BatchLimits(max_rows=work.batch))

    def answer(chats: list[Chat], num_new: int) -> Counts:
        prompts = [_prompt(str(place), chat) for place, chat in enumerate(chats)]
        options = GenerationOptions(max_new_tokens=num_new)
        usages = [
            answer.usage
            for indices in engine.batches(prompts)
            for answer in engine.generate([prompts[index] for index in indices], options)
        ]
        return Counts(
            num_prompt_tokens=sum(usage.prompt_tokens for usage in usages),
            num_new_tokens=sum(usage.completion_tokens for usage in usages),
        )

    return answer


def _prompt(name: str, chat: Chat) -> Prompt:
    messages = tuple(
        Message(role="system" if turn["role"] == "system" else "user", content=turn["content"]) for turn in chat
    )
    return Prompt(example_id=name, messages=messages)


def read_chats(prompts: Path) -> list[Chat]:
    """What `write_prompts` wrote."""
    return [json.loads(line)["messages"] for line in prompts.read_text().splitlines()]


def run_once(runner: Runner, work: Work, arguments: argparse.Namespace) -> Measured:
    """One run in a process of its own."""
    if runner.engine == "fettle":
        command = [sys.executable, __file__, "--own-run", str(work.prompts), str(work.adapter), str(work.batch)]
        command.append(runner.precision.value)
    else:
        script = Path(__file__).with_name("answering_peer.py")
        command = [str(arguments.peer_python), str(script), "--model", str(converted_folder(resolve_model(None)))]
        command += ["--adapter", str(work.adapter), "--prompts", str(work.prompts), "--batch", str(work.batch)]
        command += ["--new-tokens", str(NUM_NEW), "--dtype", DTYPE[runner.precision], *PEERS[runner.engine]]
    environment = os.environ | ({"OMP_NUM_THREADS": str(arguments.threads)} if arguments.threads else {})
    finished = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return Measured(**json.loads(finished.stdout.strip().splitlines()[-1]))


def measured_in_turn(
    runners: list[Runner], work: Work, arguments: argparse.Namespace, title: str
) -> dict[Runner, Measured]:
    """Every program in every round; the medians."""
    results: dict[Runner, list[Measured]] = {runner: [] for runner in runners}
    for number in range(1, arguments.rounds + 1):
        for runner, found in results.items():
            with watched_load() as load:
                found.append(run_once(runner, work, arguments))
            print(
                f"{_line(f'{title} round {number}', runner, found[-1])}  (others used {load[0]:.0f} % meanwhile)",
                flush=True,
            )
    if len({found[0].num_prompt_tokens for runner, found in results.items() if runner.engine != "one by one"}) > 1:
        sys.exit("the sides made different tokens of the same prompts: they cannot be compared")
    medians = {runner: median_of(found) for runner, found in results.items()}
    for runner, median in medians.items():
        print(_line(f"{title} median", runner, median))
    return medians


def median_of(found: list[Measured]) -> Measured:
    """Figure by figure."""
    figures = [asdict(one) for one in found]
    return Measured(**{name: statistics.median(figure[name] for figure in figures) for name in figures[0]})


def _line(title: str, runner: Runner, measured: Measured) -> str:
    figures = f"{measured.tokens_per_s:8.1f} tokens/s, {measured.tokens_per_cpu_s:7.1f} a CPU second"
    figures += f"  {measured.first_token_s:6.3f} s to the first token"
    return f"{title:22} {runner!s:16} {figures}  {measured.peak_mb:7,.0f} MiB"


@contextmanager
def watched_load() -> Iterator[list[float]]:
    """Percent of the processor that programs other than those started within it use meanwhile; there when it ends."""
    load: list[float] = []
    started, busy, own = time.perf_counter(), _busy_seconds(), _own_seconds()
    yield load
    others = (_busy_seconds() - busy) - (_own_seconds() - own)
    load.append(max(0.0, 100 * others / (time.perf_counter() - started) / (psutil.cpu_count() or 1)))


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.system


def _own_seconds() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def compare(arguments: argparse.Namespace, adapter: Path, folder: Path) -> dict[str, object]:
    """Both sides on every workload; ratios, then what they are made of."""
    precisions = chosen_precisions(arguments)
    messages = held_out_messages(arguments.shared, arguments.rows)
    ratios: dict[str, object] = {}
    details: dict[str, dict[str, float]] = {}
    for workload in arguments.workloads:
        instruction = instruction_of(arguments.shared, workload)
        work = Work(
            prompts=write_prompts(instruction, messages, folder / f"{workload}.jsonl"),
            adapter=adapter,
            batch=arguments.batch,
        )
        runners = [Runner(engine, precision) for precision in precisions for engine in ("fettle", *arguments.engines)]
        medians = measured_in_turn(runners, work, arguments, workload)
        details |= {f"{workload} {runner}": asdict(measured) for runner, measured in medians.items()}
        for precision in precisions:
            own, peer = medians[Runner("fettle", precision)], medians.get(Runner("attached", precision))
            if peer is not None:
                name = f"ratio_{workload}" + ("" if precision is Precision.EXACT else f"_{DTYPE[precision]}")
                ratios[name] = round(own.tokens_per_s / peer.tokens_per_s, 2)
                ratios[f"{name}_cpu"] = round(own.tokens_per_cpu_s / peer.tokens_per_cpu_s, 2)
    for name, ratio in ratios.items():
        print(f"{name:18} {ratio:6.2f}")
    return ratios | {"measured": details}


def chosen_precisions(arguments: argparse.Namespace) -> list[Precision]:
    """Those asked for, else fp32 and, where the processor multiplies it natively, bf16."""
    if arguments.precisions:
        return [Precision(name) for name in arguments.precisions]
    native = choose_precision(Precision.AUTO) is Precision.FAST
    return [Precision.EXACT, Precision.FAST] if native else [Precision.EXACT]


def grow(arguments: argparse.Namespace, adapter: Path, folder: Path) -> dict[str, object]:
    """This engine's speed over the batch, and over the length of what the prompts share."""
    runner = Runner("fettle", choose_precision(Precision.AUTO))
    renderer = ChatRenderer(load_tokenizer(resolve_model(None)))
    instruction = instruction_of(arguments.shared, "short")
    tokens_per_s: dict[str, float] = {}
    for batch in GROWTH_BATCHES:
        prompts = write_prompts(instruction, held_out_messages(arguments.shared, max(4, batch)), folder / "batch.jsonl")
        work = Work(prompts=prompts, adapter=adapter, batch=batch)
        tokens_per_s[f"batch {batch}"] = measured_in_turn([runner], work, arguments, f"batch {batch}")[
            runner
        ].tokens_per_s
    messages = held_out_messages(arguments.shared, arguments.rows)
    for length in GROWTH_PREFIXES:
        long = instruction_of_length(arguments.shared, renderer, length)
        work = Work(
            prompts=write_prompts(long, messages, folder / "prefix.jsonl"), adapter=adapter, batch=arguments.batch
        )
        chats = [_prompt("", chat).messages for chat in read_chats(work.prompts)]
        title = f"shared {common_prefix_length([renderer.prompt_tokens(chat) for chat in chats])}"
        tokens_per_s[title] = measured_in_turn([runner], work, arguments, title)[runner].tokens_per_s
    return {"growth_tokens_per_s": {title: round(speed, 1) for title, speed in tokens_per_s.items()}}


def main() -> None:
    """Run all of them in turn and print a table."""
    arguments = parse_arguments()
    if arguments.own_run:
        keep_freed_memory()  # as the command does
        prompts, adapter, batch, precision = arguments.own_run
        work = Work(prompts=Path(prompts), adapter=Path(adapter), batch=int(batch))
        answer = own_answerer(work, Precision(precision))
        print(json.dumps(asdict(measure(answer, read_chats(work.prompts), NUM_NEW))))
        return
    if arguments.shared is None:
        sys.exit("answering.py: give --shared, the folder with data")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapter = write_adapter(folder / "adapter")
        found = (grow if arguments.growth else compare)(arguments, adapter, folder)
    if arguments.json:
        print(json.dumps(found | {"rounds": arguments.rounds}))


if __name__ == "__main__":
    main()
