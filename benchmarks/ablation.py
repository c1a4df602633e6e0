"""What each part of the training step brings: the step as it is, and with one part left out at a time.

Every variant computes the same loss and the same gradient, which is shown before anything is timed. All take their turns in each
round, in one process, on the same batch; what counts is the median over the rounds. The embedded model, a LoRA adapter of rank 16
on all linear layers, 16 rows of the bundled routing task, or of Banking77 with `--shared`.

    .venv/bin/python benchmarks/ablation.py --rounds 3
    .venv/bin/python benchmarks/ablation.py --shared ../shared --workload short --json

`docs/design/008-step.md` says why each part is there.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional

from fettle.models import own_attention
from fettle.models.flex_attention import sight_of, whole_blocks
from fettle.models.head import logits_of
from fettle.models.load import LoadedModel, load_model
from fettle.models.lora_linear import as_peft_computes
from fettle.models.packing import PackedRows
from fettle.models.precision import Precision
from fettle.models.prefix_tree import Part, PrefixTree
from fettle.models.resolve import resolve_model
from fettle.models.segment_attention import AttentionForm
from fettle.records import TokenisedExample
from fettle.study.plan import tokenise
from fettle.study.prepare import prepare
from fettle.study.settings import StudySettings
from fettle.training import accumulate
from fettle.training.memory import forget_peak_memory, peak_memory_bytes
from fettle.training.settings import TrainingSettings
from fettle.training.sft import StepLoss, Targets
from fettle.training.trainable import trainable
from training import tokenised, write_workload

BATCH = 16
MOST_DIFFERENCE = {Precision.EXACT: 1e-4, Precision.FAST: 0.1}
"""Of a variant's gradient from that of the whole step, relative; in bf16 that is rounding."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A step with something left out."""

    name: str
    without: Callable[[torch.nn.Module], AbstractContextManager[None]]
    """Within it the step lacks the part."""
    plainly: bool = False
    """By the model's own forward."""
    fused_optimiser: bool = True


def unshared(rows: Sequence[Sequence[int]], *, max_tokens: int) -> tuple[Part, ...]:
    """In place of `parts_within`: nothing is shared, whatever `max_tokens` would hold."""
    del max_tokens
    return (Part(tuple(range(len(rows))), PrefixTree((), (None,) * len(rows))),)


def attended_under_one_mask(
    query_TXD: torch.Tensor,
    key_THD: torch.Tensor,
    value_THD: torch.Tensor,
    pool_key: torch.Tensor | None,
    pool_value: torch.Tensor | None,
    packed: PackedRows,
    form: AttentionForm,
) -> torch.Tensor:
    """In place of attention by segments: all tokens of the packed row against all of them, under one mask."""
    assert pool_key is None and pool_value is None and form.softcap is None, "one call, and a model that caps no scores"  # noqa: PT018
    mask_TT = packed.derived.get("one mask")
    if mask_TT is None:
        places_T = torch.arange(len(query_TXD), device=query_TXD.device)
        zero = torch.zeros_like(places_T[0])
        assert whole_blocks(0) == 0, "without a pool keys are numbered as queries are"
        mask_TT = sight_of(packed, 0).mask(form.window)(zero, zero, places_T[:, None], places_T[None])
        mask_TT[packed.num_tokens :, 0] = True  # filling: what sees nothing has no softmax
        packed.derived["one mask"] = mask_TT
    heads_first = (x.transpose(0, 1)[None] for x in (query_TXD, key_THD, value_THD))
    attended = functional.scaled_dot_product_attention(
        *heads_first, attn_mask=mask_TT, scale=form.scaling, enable_gqa=True
    )
    return attended[0].transpose(0, 1)


def loss_over_all_logits(model: Any, hidden_TE: torch.Tensor, targets: Targets) -> StepLoss:
    """In place of `sft_loss`: the logits of every token at once, and autograd's way back."""
    logits_TV = logits_of(model, hidden_TE).float()
    ordered = sorted(targets)
    places = torch.tensor([target.place for target in ordered], device=hidden_TE.device)
    tokens = torch.tensor([target.token_id for target in ordered], device=hidden_TE.device)
    counts = torch.tensor([targets[target] for target in ordered], device=hidden_TE.device)
    losses = functional.cross_entropy(logits_TV[places], tokens, reduction="none")
    is_right = logits_TV.detach()[places].argmax(-1) == tokens
    return StepLoss((losses * counts).sum(), sum(targets.values()), (is_right * counts).sum().float())


@contextmanager
def replaced(module: Any, **replacements: Any) -> Iterator[None]:
    """Names of a module that stand for something else meanwhile."""
    with patch.multiple(module, **replacements):
        yield


@contextmanager
def all_but_packing_left_out(peft: torch.nn.Module) -> Iterator[None]:
    """Rows packed as others do it: PEFT's layers, the library's norms, one mask over all, all logits, nothing shared."""
    with (
        replaced(accumulate, parts_within=unshared, sft_loss=loss_over_all_logits),
        replaced(
            own_attention,
            flex_applies=lambda _query: True,
            flex_attended=attended_under_one_mask,
            _fused=lambda _module: None,
        ),
        as_peft_computes(peft),
    ):
        yield


def left_alone(_module: Any) -> None:
    """No forward of our own for a module."""


VARIANTS = (
    Variant("the whole step", lambda _peft: nullcontext()),
    Variant("no shared prefixes", lambda _peft: replaced(accumulate, parts_within=unshared)),
    Variant(
        "one mask over the packed row, not segments",
        lambda _peft: replaced(own_attention, flex_applies=lambda _query: True, flex_attended=attended_under_one_mask),
    ),
    Variant("logits of all tokens", lambda _peft: replaced(accumulate, sft_loss=loss_over_all_logits)),
    Variant("LoRA as PEFT computes it", as_peft_computes),
    Variant(
        "attention module as the library has it", lambda _peft: replaced(own_attention, fused_attention=left_alone)
    ),
    Variant("norms as the library has them", lambda _peft: replaced(own_attention, fused_norm=left_alone)),
    Variant("MLP as the library has it", lambda _peft: replaced(own_attention, fused_mlp=left_alone)),
    Variant("AdamW for each factor by itself", lambda _peft: nullcontext(), fused_optimiser=False),
    Variant("packing alone", all_but_packing_left_out, fused_optimiser=False),
    Variant("padding, the model's own forward", as_peft_computes, plainly=True, fused_optimiser=False),
)


class Steps:
    """Steps on one batch with an adapter whose weights stay where they are."""

    def __init__(self, loaded: LoadedModel, batch: Sequence[TokenisedExample], max_tokens: int) -> None:
        self._loaded, self._batch, self._max_tokens = loaded, batch, max_tokens
        self._trainable = trainable(loaded, TrainingSettings())
        [self._master] = self._trainable.masters.values()
        with torch.no_grad():  # half of a fresh adapter is zero, and so would be the gradient of the other half
            generator = torch.Generator().manual_seed(0)
            self._master.add_(0.01 * torch.randn(self._master.shape, generator=generator).to(self._master.device))
        factors = [weight for weight in loaded.model.parameters() if weight.requires_grad]
        self._fused = torch.optim.AdamW([self._master], lr=0.0, fused=True)
        self._unfused = torch.optim.AdamW(factors, lr=0.0, foreach=False, fused=False)

    def take(self, variant: Variant) -> tuple[float, torch.Tensor]:
        """One step; its loss, and the gradient."""
        assert self._master.grad is not None, "it has room for its gradient"
        self._master.grad.zero_()
        with variant.without(self._loaded.model):
            total, num_trained, _ = accumulate.add_gradients(
                self._loaded.model, self._batch, max_tokens=self._max_tokens, plainly=variant.plainly
            )
        self._master.grad.div_(num_trained)
        torch.nn.utils.clip_grad_norm_([self._master], 1.0)
        (self._fused if variant.fused_optimiser else self._unfused).step()
        if self._master.is_cuda:
            torch.cuda.synchronize()
        return total / num_trained, self._master.grad

    def measured(self, variant: Variant) -> tuple[float, float]:
        """Seconds of a step, and the most memory it held beside what was there before, MiB."""
        with suppress(OSError, AttributeError):  # glibc keeps what earlier steps have freed
            ctypes.CDLL(None).malloc_trim(0)
        forget_peak_memory()
        before = peak_memory_bytes()
        started = time.perf_counter()
        self.take(variant)
        return time.perf_counter() - started, (peak_memory_bytes() - before) / 2**20


def batch_of(loaded: LoadedModel, arguments: argparse.Namespace) -> list[TokenisedExample]:
    """The rows of a step."""
    if arguments.shared is None:
        prepared = prepare(StudySettings(examples=Path("example:routing")))
        return list(tokenise(loaded.renderer, prepared.split).train[:BATCH])
    with tempfile.TemporaryDirectory() as folder:
        data = write_workload(arguments.shared, arguments.workload, BATCH, Path(folder))
        return list(tokenised(loaded.renderer, data))


def main() -> None:
    """Show that all variants agree, time them in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with data/routing_banking77; left out: the bundled task")
    parser.add_argument("--workload", choices=["short", "long"], default="short", help="of --shared")
    parser.add_argument("--model", help="a model as `fettle study --model` takes it; left out: the embedded one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["exact", "fast"], default="exact")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    arguments = parser.parse_args()
    precision = Precision(arguments.precision)
    loaded = load_model(resolve_model(arguments.model), precision)
    batch = batch_of(loaded, arguments)
    steps = Steps(loaded, batch, max_tokens=100_000)
    lengths = [len(example.token_ids) for example in batch]
    print(f"{len(batch)} rows of {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all", flush=True)

    wanted_loss, gradient = steps.take(VARIANTS[0])
    wanted = gradient.clone()
    differences = {}
    for variant in VARIANTS:
        loss, gradient = steps.take(variant)
        differences[variant.name] = float((gradient - wanted).norm() / wanted.norm())
        if not differences[variant.name] < MOST_DIFFERENCE[precision]:
            sys.exit(
                f"{variant.name}: another gradient ({differences[variant.name]:.2g}), loss {loss} for {wanted_loss}"
            )

    measured: dict[str, list[tuple[float, float]]] = {variant.name: [] for variant in VARIANTS}
    for _ in range(arguments.rounds):
        for variant in VARIANTS:
            measured[variant.name].append(steps.measured(variant))
    rows = {
        name: tuple(statistics.median(values) for values in zip(*results, strict=True))
        for name, results in measured.items()
    }
    whole = rows[VARIANTS[0].name][0]
    for name, (seconds, memory) in rows.items():
        told = f"{seconds:7.3f} s  {seconds / whole:5.2f} times  {memory:7,.0f} MiB  gradient differs by {differences[name]:.1e}"
        print(f"{name:44} {told}")
    if arguments.json:
        print(json.dumps({name: {"seconds": seconds, "mib": memory} for name, (seconds, memory) in rows.items()}))


if __name__ == "__main__":
    main()
