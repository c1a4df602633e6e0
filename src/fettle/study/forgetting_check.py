"""The part of a study that looks for what was forgotten: what the base model and the tuned one are asked beside the task.

The base model is asked before anything is trained, for afterwards an adapter lies on it. Answers are kept in the study's folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.answering.engine import Engine, GenerationOptions
from fettle.contenders.prompt import bare_prompt
from fettle.files import sha256_of_json
from fettle.forgetting.ask import ask
from fettle.forgetting.divergence import (
    MAX_ANSWER_TOKENS,
    adapter_sides,
    answered_rows,
    mean_divergence,
    model_sides,
    token_divergences,
)
from fettle.forgetting.items import general_suite, suite_sha256
from fettle.forgetting.measure import forgetting_found
from fettle.models.load import LoadedModel, load_model
from fettle.models.resolve import resolve_model
from fettle.progress import Listener
from fettle.records import Answer
from fettle.report_records import Forgetting, SkillChange, TokenDivergence
from fettle.study.answers import kept_answers

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
    """

    def __init__(self, plan: StudyPlan, folder: Path, listener: Listener) -> None:
        self._plan, self._listener = plan, listener
        self._folder = folder / "answers" / "forgetting"
        self._items = general_suite()
        self._prompts = [bare_prompt(example) for example in plan.split.valid[:NUM_INPUTS]]
        self._base: Replies | None = None
        self._said: tuple[Answer, ...] = ()

    def ask_base(self, engine: Engine) -> None:
        """Have the base model answer, which nothing is on yet."""
        self._base = self._replies(engine, "base", self._plan.key)
        self._said = self._kept("inputs", self._plan.key, lambda: self._answered_freely(engine))

    def ask_tuned(self, engine: Engine, identity: str) -> Replies:
        """Have the tuned model answer; `identity` says which it is."""
        return self._replies(engine, "tuned", identity)

    def found(self, tuned: Replies, divergence: TokenDivergence | None) -> Forgetting:
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
        if self._plan.settings.training.method.trains_adapter:
            with adapter_sides(base, tuned) as sides:
                found = token_divergences(rows, sides)
        else:
            found = token_divergences(rows, model_sides(base, load_model(resolve_model(str(tuned)), base.precision)))
        clusters = [self._plan.split.cluster_by_id[row.example_id] for row in rows]
        return mean_divergence(found, clusters, seed=self._plan.settings.seed)

    def _replies(self, engine: Engine, who: str, identity: str) -> Replies:
        own, renderer = self._plan.must_still_work, self._plan.loaded.renderer
        who_in_words = f"the {who} model"

        def ask_own() -> tuple[Answer, ...]:
            return () if own is None else own.answered_by(engine, renderer, self._listener, who=who_in_words)

        general = self._kept(who, identity, lambda: ask(engine, self._items, self._listener, who=who_in_words))
        own_key = sha256_of_json([identity, None if own is None else own.sha256])
        return Replies(general=general, own=self._kept(f"{who}-own", own_key, ask_own))

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

    def _kept(self, name: str, identity: str, make: Callable[[], tuple[Answer, ...]]) -> tuple[Answer, ...]:
        return kept_answers(make, file=self._folder / f"{name}.jsonl", key=sha256_of_json([identity, suite_sha256()]))
