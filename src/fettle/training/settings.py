"""What a training run is told, and what it derives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from fettle.errors import ConfigError, require_range
from fettle.models.adapter import LoraSettings, LoraVariant
from fettle.models.precision import BaseWeights

_REFERENCE_PARAMETERS = 8e9
_REFERENCE_LEARNING_RATE = 2e-4
_MOST_DERIVED_LEARNING_RATE = 2e-3
_LORA_OVER_FULL = 10
_REFERENCE_BATCH_SIZE = 16
_LEAST_LEARNING_RATE = 1e-12
MOST_TOKENS_AT_ONCE = 4096
"""More of them make nothing faster, on a processor or on a GPU (LOG.md, 2026-11-26)."""
MAX_SEED = 2**32 - 1
"""The largest seed that every library takes."""


class Method(StrEnum):
    """What is trained."""

    LORA = "lora"
    """A low-rank adapter beside frozen weights (Hu et al. 2021)."""
    QLORA = "qlora"
    """The same beside frozen weights in 4 bits (Dettmers et al. 2023)."""
    FULL = "full"
    """All weights."""

    @property
    def trains_adapter(self) -> bool:
        """Whether the base model's own weights stay as they are."""
        return self is not Method.FULL

    @property
    def base_weights(self) -> BaseWeights:
        """In which form the base model is held while it is trained, and where what was trained answers."""
        return BaseWeights.NF4 if self is Method.QLORA else BaseWeights.AS_GIVEN


class Schedule(StrEnum):
    """How the learning rate goes on after its warm-up."""

    COSINE = "cosine"
    """To zero along half a cosine (Loshchilov & Hutter 2017)."""
    LINEAR = "linear"
    """To zero along a line."""
    CONSTANT = "constant"
    """It stays at its peak."""


class Keep(StrEnum):
    """Whose weights a run ends with."""

    BEST = "best"
    """Those of the step with the lowest loss over all validation rows; where there are none, the last step's."""
    LAST = "last"
    """Those of the last step; no run stops early then."""


class Checkpointing(StrEnum):
    """Whether decoder layers are computed again in the backward pass rather than kept for it: less memory, a third more time."""

    AUTO = "auto"
    """Where memory would not suffice otherwise."""
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Settings of one run; the defaults are those of the design."""

    method: Method = Method.LORA
    epochs: int = 3
    """Passes over the training examples, >= 1; early stopping may end sooner."""
    batch_size: int = 16
    """Examples per optimiser step."""
    learning_rate: float | None = None
    """Peak learning rate; None: derived from the model's size and the method (`derived_learning_rate`)."""
    warmup_fraction: float = 0.03
    """Share of all steps in which the learning rate rises from 0."""
    schedule: Schedule = Schedule.COSINE
    max_grad_norm: float = 1.0
    """Gradients with a larger norm are scaled down to it."""
    evals_per_epoch: int = 2
    """How often the validation loss is measured, where there are validation rows."""
    quick_valid_rows: int | None = None
    """Validation rows of the evaluations within an epoch; those at its end have all, and they alone decide which step is the best.
    None: all have all."""
    evaluates_untrained: bool = True
    """Whether the validation loss is measured before the first step too."""
    keep: Keep = Keep.BEST
    """Whose weights the run ends with."""
    kept_epochs: int = 0
    """The weights as they are at the ends of so many last epochs are kept beside the result."""
    patience: int = 3
    """Stop after this many evaluations in a row without a better validation loss."""
    checkpoint_steps: int = 10
    """Steps between two checkpoints: what a kill can cost at most; more where writing one takes long (`fettle.training.loop`)."""
    micro_batch_tokens: int | None = None
    """Tokens run at once, and shared ones kept meanwhile; bounds memory and changes no result beyond rounding. None: as many as the
    memory holds, up to 4,096, beyond which nothing becomes faster."""
    checkpointing: Checkpointing = Checkpointing.AUTO
    """Of a step's intermediate results; changes no result beyond rounding."""
    processes: int = 1
    """Processes of this machine that share every batch; changes no result beyond rounding. Under `torchrun` it says how many."""
    shard: bool = False
    """The base model is divided among them (FSDP2), for models that do not fit one GPU; changes no result beyond rounding."""
    seed: int = 0
    lora: LoraSettings = field(default_factory=LoraSettings)
    """The adapter's shape, where one is trained."""

    def __post_init__(self) -> None:
        """Refuse what no run can be made of.

        Raises:
            ConfigError: A value is out of its range, or two do not go together.
        """
        require_range("epochs", self.epochs, low=1)
        require_range("batch_size", self.batch_size, low=1)
        require_range("evals_per_epoch", self.evals_per_epoch, low=1)
        require_range("patience", self.patience, low=1)
        require_range("kept_epochs", self.kept_epochs, low=0)
        if self.quick_valid_rows is not None:
            require_range("quick_valid_rows", self.quick_valid_rows, low=1)
        require_range("checkpoint_steps", self.checkpoint_steps, low=1)
        if self.micro_batch_tokens is not None:
            require_range("micro_batch_tokens", self.micro_batch_tokens, low=1)
        require_range("processes", self.processes, low=1)
        if self.learning_rate is not None:
            require_range("learning_rate", self.learning_rate, low=_LEAST_LEARNING_RATE, high=1)
        require_range("warmup_fraction", self.warmup_fraction, low=0, high=1)
        require_range("max_grad_norm", self.max_grad_norm, low=1e-6)
        require_range("seed", self.seed, low=0, high=MAX_SEED)
        if self.shard:
            self._require_divisible()
        if self.method is Method.QLORA and self.lora.variant is LoraVariant.DORA:
            raise ConfigError(
                "DoRA needs the lengths of all weight columns, and PEFT's way to them is not to be relied on where a base model is "
                "held in 4 bits",
                where="--lora-variant",
                remedy="use rslora or lora with --method qlora, or dora with --method lora",
            )

    def _require_divisible(self) -> None:
        """Refuse what cannot be trained beside a divided model.

        Raises:
            ConfigError: The method, the adapter or the number of processes does not allow it.
        """
        if self.processes < 2:
            raise ConfigError(
                "there are no processes to divide the base model among",
                where="--shard",
                remedy="say how many with --processes, one for each GPU",
            )
        if self.method is not Method.LORA:
            why = "all weights are trained" if self.method is Method.FULL else "they are held in 4 bits"
            raise ConfigError(
                f"--shard divides frozen weights as they are given, and with --method {self.method.value} {why}",
                where="--shard",
                remedy="use --method lora, or leave out --shard",
            )
        if self.lora.variant is LoraVariant.DORA:
            raise ConfigError(
                "DoRA needs the lengths of all weight columns, and of a divided model no process has them",
                where="--lora-variant",
                remedy="use rslora or lora with --shard",
            )


def derived_learning_rate(num_parameters: int, method: Method = Method.LORA) -> float:
    """A peak learning rate. For LoRA: 2e-4 at 8 billion parameters, rising as the square root of the shrinkage, two digits.

    Small models bear, and need, larger steps. On the embedded model 1.5e-3 to 3e-3 were best (LOG.md, 2026-11-23); Schulman et al.
    2025, "LoRA Without Regret", find about the same rise with the hidden size. Models yet smaller than that get no more than 2e-3.
    All weights bear a tenth of what an adapter does (the same source).

    >>> derived_learning_rate(8_000_000_000), derived_learning_rate(135_000_000), derived_learning_rate(1_000_000)
    (0.0002, 0.0015, 0.002)
    >>> derived_learning_rate(135_000_000, Method.FULL)
    0.00015
    """
    rate = min(_REFERENCE_LEARNING_RATE * (_REFERENCE_PARAMETERS / num_parameters) ** 0.5, _MOST_DERIVED_LEARNING_RATE)
    if method is Method.FULL:
        rate /= _LORA_OVER_FULL
    return two_digits(rate)


def two_digits(rate: float) -> float:
    """A learning rate as people write it.

    >>> two_digits(0.00153987)
    0.0015
    """
    return round(rate, 1 - math.floor(math.log10(rate)))


def scaled_learning_rate(rate: float, batch_size: int) -> float:
    """A rate for batches of 16 as smaller ones bear it: times the square root of the ratio, never more than it was.

    For jobs, whose batches are of 1 to 256; a study's rate does not depend on its batches. Source: Malladi et al. 2022, "On the
    SDEs and Scaling Rules for Adaptive Gradient Algorithms", which holds upwards too, where we do not rely on it.

    >>> [scaled_learning_rate(0.002, batch_size) for batch_size in (1, 4, 16, 256)]
    [0.0005, 0.001, 0.002, 0.002]
    """
    return rate * min(1.0, (batch_size / _REFERENCE_BATCH_SIZE) ** 0.5)


def learning_rate_at(
    step: int, *, num_steps: int, peak: float, warmup_fraction: float, schedule: Schedule = Schedule.COSINE
) -> float:
    """The learning rate of step `step` (from 0): linear warm-up, then as the schedule says.

    >>> [round(learning_rate_at(s, num_steps=4, peak=1.0, warmup_fraction=0.0), 3) for s in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    >>> [learning_rate_at(s, num_steps=4, peak=1.0, warmup_fraction=0.0, schedule=Schedule.LINEAR) for s in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    num_warmup = math.ceil(warmup_fraction * num_steps)
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    match schedule:
        case Schedule.COSINE:
            return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
        case Schedule.LINEAR:
            return peak * (1.0 - progress)
        case Schedule.CONSTANT:
            return peak
