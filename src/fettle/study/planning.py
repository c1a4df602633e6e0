"""A study that is ready to start: everything has been read, and nothing answered or trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from fettle.answering.answer_with import EngineKind
from fettle.answering.engine import GenerationOptions
from fettle.contenders.language_model import fitted, leaves_room
from fettle.contenders.prompt import OwnPrompt, PromptStyle
from fettle.errors import ConfigError, memory_errors_explained
from fettle.files import sha256_of_json
from fettle.forgetting.harness import Harness
from fettle.forgetting.must_still_work import MustStillWork, read_must_still_work
from fettle.models.load import LoadedModel, load_model
from fettle.models.nf4 import require_bitsandbytes
from fettle.models.precision import BaseWeights
from fettle.models.resolve import ResolvedModel, resolve_model
from fettle.progress import Listener, SilentListener
from fettle.records import Example, Finding, Prompt, Split, TaskKind
from fettle.report_records import DetectableDifference
from fettle.scoring.grader import Grader
from fettle.settings import get_launch, get_settings
from fettle.study.document_findings import document_findings, text_findings
from fettle.study.documents import StudyDocuments, study_documents
from fettle.study.engines import require_usable
from fettle.study.given_model import GivenModel, as_trained, given_model
from fettle.study.grading import Wanted, grader_hashes, study_graders, wanted_before
from fettle.study.model_findings import long_findings, untrained_findings
from fettle.study.passages import passages_seconds
from fettle.study.plan import (
    Estimate,
    TokenisedSplit,
    estimate,
    fit_to_context,
    generation_options,
    prompted_weights,
    tokenise,
)
from fettle.study.power import power_of
from fettle.study.prepare import StudyData, prepare
from fettle.study.router_samples import require_samples
from fettle.study.settings import StudySettings
from fettle.study.told_answers import told_findings, with_told_answers
from fettle.study.wording import wording_of
from fettle.study.workspace import refuse_foreign
from fettle.training.led_division import load_led
from fettle.version import fettle_version

TUNED = "tuned"
"""The contender that is trained on the examples as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """A study that is ready to start: what is known before anything has been answered."""

    settings: StudySettings
    data: StudyData
    loaded: LoadedModel
    tokens: TokenisedSplit
    graders: tuple[Grader, ...]
    options: GenerationOptions
    detectable: DetectableDifference
    findings: tuple[Finding, ...]
    key: str
    """Hash of the data, the model and the settings."""
    folder: Path
    given: GivenModel | None = None
    """The tuned model that is studied; None: the study trains one."""
    must_still_work: MustStillWork | None = None
    """The user's own examples of what must still work; None: there are none."""
    wanted: Wanted
    """What the named graders give the wanted answers; those that ask a model are asked when the study runs."""
    documents: StudyDocuments | None = None
    """What contenders with retrieval answer from; None: there are none."""
    harness: Harness | None = None
    """The tasks of lm-evaluation-harness that are asked beside; None: none are."""
    arm: str = TUNED
    """The tuned contender that is trained and asked by this plan; with documents there is a second one, with a plan of its own."""
    style: PromptStyle = field(default_factory=OwnPrompt)
    """How that contender is asked, in training and afterwards."""

    @property
    def named_graders(self) -> tuple[Grader, ...]:
        """Those that the user named, the one that decides first."""
        return self.graders[: len(self.settings.graders)]

    @property
    def split(self) -> Split:
        """The three parts."""
        return self.data.split

    @property
    def is_main(self) -> bool:
        """Whether it is the study's own plan, not that of a second tuned contender."""
        return self.arm == TUNED

    @property
    def is_confidence_asked(self) -> bool:
        """Whether the tuned contender's written answers are to tell how probable their tokens were, for a router.

        Labels tell it anyhow, and only the reference engine can. It takes a pass of the model more for each token that a JSON
        schema settles, so it is done for who has named a target.
        """
        is_written = self.data.task.kind is not TaskKind.LABELS
        return (
            self.settings.routing.target is not None
            and is_written
            and self.settings.answer_with.kind is EngineKind.LOCAL
        )

    def prompt(self, example: Example) -> Prompt:
        """What the tuned contender is asked about an example, shortened as it is there."""
        renderer, room = self.loaded.renderer, self.loaded.max_tokens - self.options.max_new_tokens

        def num_tokens(prompt: Prompt) -> int:
            return len(renderer.prompt_tokens(prompt.messages, prompt.tools))

        return fitted(self.style, example, lambda prompt: leaves_room(prompt, num_tokens=num_tokens, room=room))[1]


def plan_study(settings: StudySettings, listener: Listener | None = None) -> StudyPlan:
    """Read everything and say what the study will be, without answering or training. Documents are indexed.

    What is done with the plan belongs into `with plan.loaded.in_use()`: other processes may hold parts of the model.

    Args:
        settings: The study.
        listener: Is told how far the indexing is; None: nobody.

    Raises:
        FettleError: The data, the model or an option cannot be used; the message says why and what to do.
    """
    if settings.out is not None:
        refuse_foreign(settings.out)
    given = given_model(settings)
    if given is not None:
        settings = as_trained(settings, given)
    if get_launch() is not None and (settings.num_trials or settings.learning_curve or settings.documents):
        raise ConfigError(
            "a settings search, a learning curve and documents need several models, and `torchrun` has started processes for one",
            where="--search, --learning-curve, --documents",
            remedy="start the study without `torchrun`; --processes shares every training among processes",
        )
    source = resolve_model(settings.model) if given is None else given.base
    if settings.training.method.base_weights is BaseWeights.NF4:
        require_bitsandbytes()
    require_usable(settings)
    harness = _harness(settings)
    data = prepare(settings, () if given is None else given.taught)
    documents = (
        None
        if settings.documents is None
        else study_documents(settings.documents, settings.project, listener or SilentListener())
    )
    loaded = _loaded(source, settings)
    try:
        if given is not None:
            given.require_template(loaded.renderer)
        return replace(_planned(settings, data, loaded, given, documents), harness=harness)
    except BaseException:
        loaded.release()
        raise


def _loaded(source: ResolvedModel, settings: StudySettings) -> LoadedModel:
    """The base model, as the contenders without fine-tuning have it."""
    if settings.training.shard:
        return load_led(source, settings.precision, num_processes=settings.training.processes)
    return load_model(source, settings.precision, prompted_weights(source, settings))


def _planned(
    settings: StudySettings,
    data: StudyData,
    loaded: LoadedModel,
    given: GivenModel | None,
    documents: StudyDocuments | None,
) -> StudyPlan:
    require_samples(settings, data.task)
    split, long = fit_to_context(
        data.split, loaded.renderer, max_tokens=loaded.max_tokens, leave_out=settings.leave_out_long
    )
    if documents is not None and data.task.kind is TaskKind.TEXT:
        split = with_told_answers(split, documents)
    data = replace(data, split=split)
    graders = study_graders(
        settings.graders,
        data.task,
        split.train,
        url=settings.grader_url,
        lookup=None if documents is None else documents.lookup,
    )
    wanted = wanted_before(graders, len(settings.graders), split)
    tokens = tokenise(loaded.renderer, split)
    hashes = [data.split_sha256(), sorted(data.file_sha256.values()), loaded.source.sha256()]
    hashes += [] if given is None else [given.sha256]
    hashes += [] if documents is None else [documents.retriever().identity()]
    hashes += [] if not settings.graders else [grader_hashes(graders)]
    own = _must_still_work(settings)
    hashes += [] if own is None else [own.sha256]
    key = sha256_of_json(
        [*hashes, settings.key_parts(), loaded.precision.value, loaded.base_weights.value, fettle_version()]
    )
    home = get_settings().home
    return StudyPlan(
        settings=settings,
        data=data,
        loaded=loaded,
        tokens=tokens,
        graders=graders,
        options=generation_options(
            settings,
            data.task,
            split,
            loaded.renderer,
            None if documents is None else wording_of(data.task, split.train),
        ),
        detectable=power_of(split, is_binary=graders[0].is_binary),
        findings=(
            *data.findings,
            *long_findings(long),
            *untrained_findings(split.train, tokens.train),
            *(() if own is None else (*own.findings, *own.learned_findings((*split.train, *split.valid)))),
            *wanted.findings,
            *(() if documents is None else _findings_of(documents, split, data.task.kind)),
        ),
        key=key,
        folder=settings.out or home / "studies" / f"{data.name}-{key[:8]}",
        given=given,
        documents=documents,
        must_still_work=own,
        wanted=wanted,
    )


def _findings_of(documents: StudyDocuments, split: Split, kind: TaskKind) -> Iterator[Finding]:
    """What is noticed of the documents, and of examples beside them."""
    yield from documents.findings
    yield from document_findings(split, documents)
    yield from told_findings(split)
    if kind is TaskKind.TEXT:
        yield from text_findings(split.train, documents)


def _must_still_work(settings: StudySettings) -> MustStillWork | None:
    forgetting = settings.forgetting
    if forgetting is None or forgetting.must_still_work is None:
        return None
    return read_must_still_work(forgetting.must_still_work)


def _harness(settings: StudySettings) -> Harness | None:
    forgetting = settings.forgetting
    if forgetting is None or forgetting.harness is None:
        return None
    if settings.training.shard:
        raise ConfigError(
            "lm-evaluation-harness cannot ask a model that several processes hold",
            where="--harness-task",
            remedy="leave out --shard, or the tasks",
        )
    return Harness(forgetting.harness)


def estimate_study(plan: StudyPlan) -> Estimate:
    """What the study will take, measured on one training step and one batch of answers."""
    with memory_errors_explained("measuring one training step"):
        trains = plan.given is None
        expected = estimate(plan.loaded, plan.tokens, plan.split, plan.settings, plan.options, trains=trains)
        if plan.documents is None:
            return expected
        return replace(expected, passages_seconds=passages_seconds(plan, expected))
