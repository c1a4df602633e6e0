"""Tasks of lm-evaluation-harness put to the base model and to the tuned one, once both can be had: after training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fettle.files import sha256_of_json
from fettle.forgetting.divergence import Side, Sides, adapter_sides, model_sides
from fettle.forgetting.harness import Harness
from fettle.forgetting.harness_changes import harness_changes, harness_results
from fettle.forgetting.harness_model import HarnessModel, KeptReplies, harness_lm
from fettle.models.load import LoadedModel, load_model
from fettle.models.resolve import resolve_model
from fettle.progress import Listener
from fettle.report_records import SkillChange
from fettle.training.settings import Method


class HarnessCheck:
    """Asks both models, and compares what they said. Replies are kept in the study's folder.

    The tasks' data are read at once, from files or from Hugging Face, so that what cannot be had is told of before anything
    is answered.

    Args:
        harness: The tasks.
        folder: Where replies are kept.
        listener: Is told how far it is, and what is fetched.

    Raises:
        DataError: The data of a task cannot be had.
    """

    def __init__(self, harness: Harness, folder: Path, listener: Listener) -> None:
        self._harness, self._folder, self._listener = harness, folder, listener
        if said := harness.fetched_in_words:
            listener.on_message(f"lm-evaluation-harness: {said}; HF_HUB_OFFLINE=1 forbids it")
        self._tasks = harness.load()

    def changes(self, sides: Sides, base: LoadedModel, identity: str) -> tuple[SkillChange, ...]:
        """The change on each task.

        Args:
            sides: Both models.
            base: The base model.
            identity: Says which model was tuned.

        Raises:
            DataError: A task cannot be evaluated, or has no metric that a change can be told of.
        """
        key = sha256_of_json([base.source.sha256(), base.precision.value, base.base_weights.value])
        before = self._results(sides.base, base, key=key, who="base")
        after = self._results(sides.tuned, base, key=sha256_of_json([key, identity]), who="tuned")
        return harness_changes(self._tasks.asked, before, after)

    def _results(self, side: Side, base: LoadedModel, *, key: str, who: str) -> Mapping[str, Any]:
        kept = KeptReplies(file=self._folder / f"harness-{who}.jsonl", key=key)
        with side() as model:
            asked = HarnessModel(harness_lm(model, base), kept, self._listener, who=f"the {who} model")
            return harness_results(self._tasks, asked, limit=self._harness.settings.limit)


@contextmanager
def sides_of(method: Method, base: LoadedModel, tuned: Path) -> Iterator[Sides]:
    """A bare base model and what was trained beside it, an adapter or a whole model; the base is bare again afterwards.

    Raises:
        ModelError: The tuned model cannot be loaded.
    """
    if method.trains_adapter:
        with adapter_sides(base, tuned) as sides:
            yield sides
    else:
        yield model_sides(base, load_model(resolve_model(str(tuned)), base.precision))
