"""The fitted classifier as a contender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fettle.contenders.classifier import LabelClassifier
from fettle.files import sha256_of_json
from fettle.models.token_groups import even_groups
from fettle.records import Answer, Example, Message

_BATCH_SIZE = 256


@dataclass(frozen=True, slots=True)
class ClassifierArm:
    """Logistic regression over embeddings or words: no language model at all."""

    fitted: LabelClassifier

    @property
    def name(self) -> str:
        """The key in reports."""
        return "classifier"

    @property
    def title(self) -> str:
        """What people call it."""
        return "Classifier"

    @property
    def is_fine_tuned(self) -> bool:
        """It is trained, but it is no language model."""
        return False

    def describe(self) -> str:
        """Features and settings, chosen on validation."""
        return self.fitted.description

    def told(self, example: Example) -> tuple[Message, ...]:  # noqa: ARG002 (the interface's)
        """Nothing: it sees what the user says as it is."""
        return ()

    def is_shortened(self, example: Example) -> bool:  # noqa: ARG002 (the interface's)
        """Never: there is no prompt."""
        return False

    def identity(self) -> str:
        """What its answers depend on: the fit is deterministic in data and choice."""
        return sha256_of_json([self.fitted.description, list(self.fitted.labels)])

    def batches(self, examples: Sequence[Example]) -> tuple[tuple[int, ...], ...]:
        """Batches of 256."""
        return even_groups(len(examples), _BATCH_SIZE)

    def answer(self, examples: Sequence[Example]) -> tuple[Answer, ...]:
        """One label for each example."""
        return self.fitted.answer(examples)
