"""The part of a study that looks for what was forgotten: what the base model and the tuned one are asked beside the task.

The base model is asked before anything is trained, for afterwards an adapter lies on it. Answers are kept in the study's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.answering.engine import Engine, GenerationOptions
from fettle.files import sha256_of_json
from fettle.forgetting.ask import ask
from fettle.forgetting.divergence import (
    MAX_ANSWER_TOKENS,
    answered_rows,
    mean_divergence,
    token_divergences,
)
from fettle.forgetting.items import general_suite, suite_sha256
from fettle.forgetting.measure import forgetting_found
from fettle.models.load import LoadedModel
from fettle.progress import Listener
from fettle.records import Answer
from fettle.report_records import Forgetting, SkillChange, TokenDivergence
from fettle.settings import get_settings
from fettle.study.answers import kept_answers
from fettle.study.harness_check import HarnessCheck, sides_of
from fettle.version import fettle_version

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan

NUM_INPUTS = 64
"""Validation examples along whose answers by the base model the divergence is measured: their questions alone are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """What one of the two models said."""

    general: tuple[Answer, ...]
    own: tuple[Answer, ...]
    """To the user's own examples of what must still work; empty: there are none."""


class ForgettingCheck:
    """Asks both models, and compares what they said.

    Args:
        plan: A study whose settings ask for it.
        folder: The study's.
        listener: Is told how far it is.

    Raises:
        DataError: The data of a task of lm-evaluation-harness cannot be had.
    """

    def __init__(self, plan: StudyPlan, folder: Path, listener: Listener) -> None:
        self._plan, self._listener = plan, listener
        self._folder = folder / "answers" / "forgetting"
        self._items = general_suite()
        self._prompts = [plan.prompt(example) for example in plan.split.valid[:NUM_INPUTS]]
        self._base: Replies | None = None
        self._said: tuple[Answer, ...] = ()
        self._harness = None if plan.harness is None else HarnessCheck(plan.harness, self._folder, listener)

    def ask_base(self, engine: Engine) -> None:
        """Have the base model answer, which nothing is on yet. What it says to the general suite is kept for all studies."""
        identity = self._base_identity(engine)
        file = get_settings().home / "general" / f"{identity[:16]}.jsonl"
        general = self._general(engine, "the base model", identity, file)
        self._base = Replies(general=general, own=self._own(engine, "the base model", "base-own", self._plan.key))
        self._said = kept_answers(
            lambda: self._answered_freely(engine), file=self._folder / "inputs.jsonl", key=self._plan.key
        )

    def ask_tuned(self, engine: Engine, identity: str, *, strength: float = 1.0) -> Replies:
        """Have the tuned model answer.

        Args:
            engine: Of the tuned model.
            identity: Says which model it is.
            strength: Of its adapter.
        """
        name = f"tuned-{strength:g}"
        who = "the tuned model" if strength == 1 else f"the tuned model at {strength:g} of its strength"
        general = self._general(engine, who, identity, self._folder / f"{name}.jsonl")
        return Replies(general=general, own=self._own(engine, who, f"{name}-own", identity))

    def found(
        self, tuned: Replies, divergence: TokenDivergence | None, harness: tuple[SkillChange, ...] = ()
    ) -> Forgetting:
        """What was forgotten.

        Raises:
            DataError: A whole category could not be scored for both.
        """
        base, settings = self._base, self._plan.settings.forgetting
        assert base is not None, "the base model is asked first"
        assert settings is not None, "the study asks for it"
        return forgetting_found(
            self._items,
            base.general,
            tuned.general,
            budget=settings.budget,
            own=self._own_change(base, tuned),
            divergence=divergence,
            harness=harness,
        )

    def divergence(self, base: LoadedModel, tuned: Path) -> TokenDivergence | None:
        """How far the tuned model has moved away from the base that it was trained beside, which is bare.

        None where the base model said nothing, and for a model that several processes hold, whose answers are too slow for it.

        Raises:
            ModelError: The tuned model cannot be loaded.
        """
        rows = answered_rows(base.renderer, self._prompts, self._said)
        if not rows or base.division is not None:
            return None
        self._listener.on_message("Measuring how far the tuned model has moved away from the base model")
        with sides_of(self._plan.settings.training.method, base, tuned) as sides:
            found = token_divergences(rows, sides)
        clusters = [self._plan.split.cluster_by_id[row.example_id] for row in rows]
        return mean_divergence(found, clusters, seed=self._plan.settings.seed)

    def harness(self, base: LoadedModel, tuned: Path, identity: str) -> tuple[SkillChange, ...]:
        """The changes on the tasks of lm-evaluation-harness that were asked for, of a base model that is bare.

        Raises:
            DataError: A task cannot be evaluated.
            ModelError: The tuned model cannot be loaded.
        """
        if self._harness is None:
            return ()
        with sides_of(self._plan.settings.training.method, base, tuned) as sides:
            return self._harness.changes(sides, base, identity)

    def _general(self, engine: Engine, who: str, identity: str, file: Path) -> tuple[Answer, ...]:
        key = sha256_of_json([identity, suite_sha256()])
        return kept_answers(lambda: ask(engine, self._items, self._listener, who=who), file=file, key=key)

    def _own(self, engine: Engine, who: str, name: str, identity: str) -> tuple[Answer, ...]:
        own, renderer = self._plan.must_still_work, self._plan.loaded.renderer
        if own is None:
            return ()
        return kept_answers(
            lambda: own.answered_by(engine, renderer, self._listener, who=who),
            file=self._folder / f"{name}.jsonl",
            key=sha256_of_json([identity, own.sha256]),
        )

    def _base_identity(self, engine: Engine) -> str:
        """What the base model's answers to the suite depend on."""
        loaded = self._plan.loaded
        weights = [loaded.source.sha256(), loaded.precision.value, loaded.base_weights.value]
        return sha256_of_json(
            [*weights, loaded.renderer.template.sha256, engine.name, suite_sha256(), fettle_version()]
        )

    def _own_change(self, base: Replies, tuned: Replies) -> SkillChange | None:
        own = self._plan.must_still_work
        return None if own is None else own.change(base.own, tuned.own)

    def _answered_freely(self, engine: Engine) -> tuple[Answer, ...]:
        options = GenerationOptions(max_new_tokens=MAX_ANSWER_TOKENS)
        by_id: dict[str, Answer] = {}
        for batch in engine.batches(self._prompts):
            answers = engine.generate([self._prompts[index] for index in batch], options)
            by_id |= {answer.example_id: answer for answer in answers}
        return tuple(by_id[prompt.example_id] for prompt in self._prompts)
