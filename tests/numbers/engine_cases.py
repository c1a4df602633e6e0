"""What engines are asked in tests, and what they are held against: a tiny model with an adapter, and its GGUF files.

One token that the tuned model likes to write ends its answers, as an end of turn does those of a trained model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from test_start_up_check import adapter_folder
from training_runs import prompt

from fettle.answering.same_answers import CheckRow, Expected, Reference, reference_of
from fettle.export.run import export
from fettle.export.settings import ExportFormat, ExportSettings, WeightType
from fettle.models.adapter import load_adapter, unload_adapters
from fettle.models.load import LoadedModel
from tiny_models import load_tiny_model, save_tiny_model

PROMPTS = [
    prompt(text)
    for text in ("Where is my parcel?", "I was charged twice for the same order", "x", "Where is it? It was due.")
]
NUM_BEFORE_END = 4


@dataclass
class Case:
    """A tuned tiny model."""

    folder: Path
    bare: LoadedModel
    adapter: Path
    known: dict[tuple[bool, tuple[int, ...]], torch.Tensor] = field(default_factory=dict)

    def reference(self, *, is_tuned: bool = True) -> Reference:
        """The model with its adapter, or without it."""

        def logits(row: Sequence[int]) -> torch.Tensor:
            key = (is_tuned, tuple(row))
            if key not in self.known:
                peft = load_adapter(self.bare, self.adapter, name="tuned") if is_tuned else None
                try:
                    self.known[key] = reference_of(self.bare)(row)
                finally:
                    if peft is not None:
                        unload_adapters(peft)
            return self.known[key]

        return logits

    def greedy(self, row: Sequence[int], num_tokens: int, *, is_tuned: bool = True) -> list[int]:
        tokens: list[int] = []
        for _ in range(num_tokens):
            tokens.append(int(self.reference(is_tuned=is_tuned)([*row, *tokens])[-1].argmax()))
        return tokens

    @property
    def loaded(self) -> LoadedModel:
        """The base model, in memory once more, with the tuned model's favourite token among those that end an answer."""
        end = self.rows()[0].answer[-1]

        class Ended(LoadedModel):
            @property
            def stop_token_ids(self) -> frozenset[int]:
                return LoadedModel.stop_token_ids.__get__(self) | {end}

        again = load_tiny_model(self.folder / "model")
        return Ended(again.source, again.model, again.renderer, again.precision)

    def rows(self) -> list[CheckRow]:
        """Prompts with what the tuned model answers."""
        prompts = [self.bare.renderer.prompt_tokens(one.messages) for one in PROMPTS]
        return [CheckRow(prompt=row, answer=tuple(self.greedy(row, NUM_BEFORE_END))) for row in prompts]

    def expected(self, dtype: torch.dtype = torch.float32, *, is_tuned: bool = True, noise: float = 0.0) -> Expected:
        return Expected(
            reference=self.reference(is_tuned=is_tuned),
            untuned=self.reference(is_tuned=False) if is_tuned else None,
            stop_token_ids=self.loaded.stop_token_ids,
            dtype=dtype,
            noise=noise,
        )

    def file(self, weight_type: WeightType, *, is_tuned: bool = True) -> Path:
        """A GGUF file of it."""
        out = self.folder / f"{'tuned' if is_tuned else 'base'}-{weight_type}.gguf"
        model = self.folder / "model"
        if not out.exists():
            settings = ExportSettings(
                source=self.adapter if is_tuned else model,
                format=ExportFormat.GGUF,
                out=out,
                weight_type=weight_type,
                model=str(model) if is_tuned else None,
            )
            export(settings)
        return out


def make_case(folder: Path, family: str) -> Case:
    bare = load_tiny_model(save_tiny_model(folder / "model", family))
    return Case(folder, bare, adapter_folder(bare, folder / "adapter"))
