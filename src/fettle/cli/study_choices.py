"""What the options of `fettle study` can be set to: the words of the settings, which the command line must not import early."""

from __future__ import annotations

from enum import StrEnum


class PrecisionOption(StrEnum):
    """The choices of --precision; the same words as `models.precision.Precision`."""

    AUTO = "auto"
    EXACT = "exact"
    FAST = "fast"


class MethodOption(StrEnum):
    """The choices of --method, those of `training.settings.Method`."""

    LORA = "lora"
    QLORA = "qlora"
    FULL = "full"


class ScheduleOption(StrEnum):
    """The choices of --schedule, those of `training.settings.Schedule`."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


class CheckpointingOption(StrEnum):
    """The choices of --checkpointing, those of `training.settings.Checkpointing`."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class VariantOption(StrEnum):
    """The choices of --lora-variant, those of `models.adapter.LoraVariant`."""

    LORA = "lora"
    RSLORA = "rslora"
    DORA = "dora"
