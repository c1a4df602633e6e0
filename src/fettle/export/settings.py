"""What an export is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fettle.errors import ConfigError


class ExportFormat(StrEnum):
    """What is written."""

    ADAPTER = "adapter"
    """A PEFT folder, which needs the base model beside it."""
    MERGED = "merged"
    """A whole model in Hugging Face format, safetensors."""
    GGUF = "gguf"
    """One file for llama.cpp and what is built on it."""


class WeightType(StrEnum):
    """How the numbers of a weight matrix are stored."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    """Blocks of 32 8-bit integers with one 16-bit scale."""
    Q4_1 = "q4_1"
    """Blocks of 32 4-bit integers with a 16-bit scale and minimum; what is most sensitive is Q8_0."""


_MERGED_TYPES = (WeightType.F32, WeightType.F16, WeightType.BF16)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """One export."""

    source: Path
    """The folder of a study or a training run, of a PEFT adapter, or of a model that was tuned as a whole."""
    format: ExportFormat
    out: Path
    """The folder to write; with GGUF the file."""
    weight_type: WeightType | None = None
    """None: for a merged model what the base model's weights are stored as, for GGUF Q8_0; an adapter keeps its own."""
    model: str | None = None
    """The base model; None: the one that the study, or the adapter, names."""

    def __post_init__(self) -> None:
        """Refuse what cannot be written.

        Raises:
            ConfigError: The format has no such type, or no GGUF file would be found under this name.
        """
        allowed = {ExportFormat.ADAPTER: (), ExportFormat.MERGED: _MERGED_TYPES, ExportFormat.GGUF: tuple(WeightType)}
        if self.weight_type is not None and self.weight_type not in allowed[self.format]:
            types = ", ".join(allowed[self.format])
            raise ConfigError(
                f"--format {self.format} cannot be written as {self.weight_type}",
                where="--type",
                remedy=f"choose one of {types}" if types else "leave it out: an adapter is copied as it was trained",
            )
        if self.format is ExportFormat.GGUF and self.out.suffix != ".gguf":
            raise ConfigError(
                "expected the name of a file that ends in .gguf, by which other tools know it",
                where=f"--out {self.out}",
                remedy=f"name it {self.out.name}.gguf",
            )
