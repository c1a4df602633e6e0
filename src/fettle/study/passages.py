"""The contenders of a study that are shown passages: the base model, and the one that is trained to answer from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fettle.answering.engine import Engine
from fettle.contenders.instruction import derive_hint
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.raft import AS_ASKED, RaftSettings, raft_examples
from fettle.contenders.retrieval import PassageReader, RememberedSearch, RetrievedPassages
from fettle.files import sha256_of_json
from fettle.progress import Listener
from fettle.retrieval.fence import Wording
from fettle.scoring.abstention import learn_abstentions
from fettle.study.documents import StudyDocuments
from fettle.study.ladder import Ladder, Rung
from fettle.study.plan import NUM_LOCAL_ANSWER_RUNS, Estimate, TokenisedSplit
from fettle.study.wording import wording_of

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan

RETRIEVAL, TUNED_RETRIEVAL = "retrieval", "tuned_retrieval"
_FEW_PASSAGES = 2
_NUM_MEASURED = 12
_SPARE = 2
"""Times as many passages as are shown are looked for: training leaves some out, and others take their place."""


def retrieval_rung(plan: StudyPlan, ladder: Ladder, engine: Engine) -> Rung:
    """The base model with passages in its prompt, in the way that answers validation best: all passages or few, a hint or none."""
    assert plan.documents is not None, "asked for where there are documents"
    hint = derive_hint(plan.data.task, plan.split.train, ladder.style_rules)
    num_passages = plan.documents.settings.search.num_passages
    ways = [(num_passages, hint), (num_passages, None)]
    if num_passages > _FEW_PASSAGES:
        ways.append((_FEW_PASSAGES, hint))

    def reader(number: int, hint: str | None) -> PassageReader:
        model = LanguageModel(
            name=RETRIEVAL,
            title="Retrieval",
            engine=engine,
            style=_style(plan, num_passages=number, hint=hint),
            task=plan.data.task,
            options=plan.options,
            engine_identity=plan.key,
        )
        return PassageReader(model=model)

    return ladder.best([reader(number, hint) for number, hint in ways])


def tuned_plans(plan: StudyPlan, untuned: Sequence[Rung], listener: Listener) -> tuple[StudyPlan, ...]:
    """A plan for each tuned contender: on the examples alone and, with documents, with passages in the prompts.

    Args:
        plan: The study.
        untuned: The contenders without fine-tuning: as many passages are shown as suit the base model best.
        listener: Is told what the training examples are shown.
    """
    if plan.documents is None or not plan.documents.settings.trains:
        return (plan,)
    base = next(rung.contender for rung in untuned if rung.contender.name == RETRIEVAL)
    assert isinstance(base, PassageReader), "made by retrieval_rung"
    style = _style(plan, num_passages=base.style.num_passages, hint=None)
    reader = PassageReader(model=replace(base.model, style=style))
    return plan, _with_passages(plan, plan.documents, reader, listener)


def passages_seconds(plan: StudyPlan, expected: Estimate) -> float:
    """What the contenders with passages take: as the others, times how much longer their prompts are.

    Args:
        plan: The study.
        expected: Of the other contenders.
    """
    assert plan.documents is not None, "asked for where there are documents"
    style = _style(plan, num_passages=plan.documents.settings.search.num_passages, hint=None)
    some, renderer = plan.split.valid[:_NUM_MEASURED], plan.loaded.renderer
    plain, shown = (
        sum(len(renderer.prompt_tokens(messages, example.tools)) for messages, example in zip(told, some, strict=True))
        for told in ([example.prompt for example in some], [style.messages(example) for example in some])
    )
    trains = plan.documents.settings.trains
    training = 0.0 if expected.training is None or not trains else expected.training.seconds
    return shown / plain * (training + (1 + trains) / NUM_LOCAL_ANSWER_RUNS * expected.answer_seconds)


def wording_for(plan: StudyPlan) -> Wording:
    """What a model is told about the passages in a study."""
    return wording_of(plan.data.task, plan.split.train)


def _style(plan: StudyPlan, *, num_passages: int, hint: str | None) -> RetrievedPassages:
    assert plan.documents is not None, "asked for where there are documents"
    search = RememberedSearch(plan.documents.retriever(num_passages=_SPARE * num_passages))
    return RetrievedPassages(search, num_passages=num_passages, wording=wording_for(plan), hint=hint)


def _with_passages(plan: StudyPlan, documents: StudyDocuments, reader: PassageReader, listener: Listener) -> StudyPlan:
    """The plan of the tuned contender that is asked as `reader` asks."""
    abstentions, renderer = learn_abstentions(plan.split.train), plan.loaded.renderer
    train = raft_examples(
        plan.split.train,
        reader,
        lookup=documents.lookup,
        abstentions=abstentions,
        settings=RaftSettings(seed=plan.settings.seed),
    )
    valid = raft_examples(plan.split.valid, reader, lookup=documents.lookup, abstentions=abstentions, settings=AS_ASKED)
    listener.on_message(f"Training with passages: {train.describe()}")
    return replace(
        plan,
        arm=TUNED_RETRIEVAL,
        style=reader.style,
        tokens=TokenisedSplit(train=renderer.rows_of(train.examples), valid=renderer.rows_of(valid.examples)),
        key=sha256_of_json([plan.key, TUNED_RETRIEVAL, reader.identity()]),
        folder=plan.folder / TUNED_RETRIEVAL,
    )
