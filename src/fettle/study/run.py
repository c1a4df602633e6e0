"""One study from files to verdict. Every stage leaves its result in the study's folder and is skipped when that is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from fettle.answering.engine import Engine, GenerationOptions
from fettle.answering.engines.openai_http import OpenAIEngine
from fettle.contenders.instruction import derive_hint
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.prompt import OwnPrompt
from fettle.errors import memory_errors_explained
from fettle.files import sha256_of_json
from fettle.forgetting.must_still_work import MustStillWork, read_must_still_work
from fettle.models.load import LoadedModel, load_model
from fettle.models.nf4 import require_bitsandbytes
from fettle.models.precision import BaseWeights, Precision, keep_choice
from fettle.models.resolve import ResolvedModel, resolve_model
from fettle.progress import Listener, SilentListener
from fettle.records import Detectable, Finding, Split, TaskKind
from fettle.report_records import Forgetting, StudyReport
from fettle.scoring.gradable import require_gradable
from fettle.scoring.grader import Grader
from fettle.scoring.graders.house_style import HouseStyle
from fettle.scoring.registry import default_graders, grader_by_name
from fettle.settings import get_settings
from fettle.study.answers import measure_latency
from fettle.study.assembled_report import assembled_report
from fettle.study.declaration import declare, declared_comparison
from fettle.study.engines import StudyEngines, check_rows_of, require_usable
from fettle.study.forgetting import report_with
from fettle.study.forgetting_check import ForgettingCheck
from fettle.study.given_model import GivenModel, as_trained, given_model
from fettle.study.keeper import Keeper, NoKeeper
from fettle.study.ladder import Ladder, Rung, best_rung
from fettle.study.looks import count_look, require_countable
from fettle.study.model_findings import long_findings, untrained_findings
from fettle.study.plan import (
    Estimate,
    TokenisedSplit,
    estimate,
    fit_to_context,
    generation_options,
    prompted_weights,
    tokenise,
    what_the_test_can_show,
)
from fettle.study.prepare import StudyData, prepare
from fettle.study.progress import training_listener
from fettle.study.provenance import Hashes, provenance, shown_command
from fettle.study.report import ReportPaths, write_report
from fettle.study.results import (
    TestedRung,
)
from fettle.study.settings import StudySettings
from fettle.study.tuned import NUM_CHECK_PROMPTS, tuned_arm, tuned_engine
from fettle.study.workspace import refuse_foreign, workspace
from fettle.training.base import base_of
from fettle.training.led_division import load_led
from fettle.training.loop import TrainingResult, train
from fettle.version import fettle_version

_MOST_SHOT_CHARACTERS = 6000
_CHARACTERS_PER_TOKEN = 3  # of European languages 3 to 5; a prompt that gets too long all the same is given fewer shots


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """A study that is ready to start: what is known before anything has been answered."""

    settings: StudySettings
    data: StudyData
    loaded: LoadedModel
    tokens: TokenisedSplit
    graders: tuple[Grader, ...]
    options: GenerationOptions
    detectable: Detectable
    findings: tuple[Finding, ...]
    key: str
    """Hash of the data, the model and the settings."""
    folder: Path
    given: GivenModel | None = None
    """The tuned model that is studied; None: the study trains one."""
    must_still_work: MustStillWork | None = None
    """The user's own examples of what must still work; None: there are none."""

    @property
    def split(self) -> Split:
        """The three parts."""
        return self.data.split


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """A finished study."""

    report: StudyReport
    paths: ReportPaths
    tuned: Path
    """The tuned model: the PEFT folder of an adapter, or the folder of a whole model."""


def plan_study(settings: StudySettings) -> StudyPlan:
    """Read everything and say what the study will be, without answering or training.

    What is done with the plan belongs into `with plan.loaded.in_use()`: other processes may hold parts of the model.

    Raises:
        FettleError: The data, the model or an option cannot be used; the message says why and what to do.
    """
    if settings.out is not None:
        refuse_foreign(settings.out)
    given = given_model(settings)
    if given is not None:
        settings = as_trained(settings, given)
    source = resolve_model(settings.model) if given is None else given.base
    if settings.training.method.base_weights is BaseWeights.NF4:
        require_bitsandbytes()
    require_usable(settings)
    data = prepare(settings, () if given is None else given.taught)
    loaded = _loaded(source, settings)
    try:
        if given is not None:
            given.require_template(loaded.renderer)
        return _planned(settings, data, loaded, given)
    except BaseException:
        loaded.release()
        raise


def _loaded(source: ResolvedModel, settings: StudySettings) -> LoadedModel:
    """The base model, as the contenders without fine-tuning have it."""
    if settings.training.shard:
        return load_led(source, settings.precision, num_processes=settings.training.processes)
    return load_model(source, settings.precision, prompted_weights(source, settings))


def _planned(settings: StudySettings, data: StudyData, loaded: LoadedModel, given: GivenModel | None) -> StudyPlan:
    split, long = fit_to_context(
        data.split, loaded.renderer, max_tokens=loaded.max_tokens, leave_out=settings.leave_out_long
    )
    data = replace(data, split=split)
    graders = default_graders(data.task, split.train)
    if settings.primary is not None:
        chosen = grader_by_name(settings.primary, data.task, split.train)
        graders = (chosen, *(grader for grader in graders if grader.name != chosen.name))
    require_gradable(graders[0], split.valid, "validation")
    require_gradable(graders[0], split.test, "test")
    tokens = tokenise(loaded.renderer, split)
    hashes = [data.split_sha256(), sorted(data.file_sha256.values()), loaded.source.sha256()]
    hashes += [] if given is None else [given.sha256]
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
        options=generation_options(settings, data.task, split, loaded.renderer),
        detectable=what_the_test_can_show(split, is_binary=graders[0].is_binary),
        findings=(
            *data.findings,
            *long_findings(long),
            *untrained_findings(split.train, tokens.train),
            *(() if own is None else own.findings),
        ),
        key=key,
        folder=settings.out or home / "studies" / f"{data.name}-{key[:8]}",
        given=given,
        must_still_work=own,
    )


def _must_still_work(settings: StudySettings) -> MustStillWork | None:
    forgetting = settings.forgetting
    if forgetting is None or forgetting.must_still_work is None:
        return None
    return read_must_still_work(forgetting.must_still_work)


def estimate_study(plan: StudyPlan) -> Estimate:
    """What the study will take, measured on one training step and one batch of answers."""
    with memory_errors_explained("measuring one training step"):
        trains = plan.given is None
        return estimate(plan.loaded, plan.tokens, plan.split, plan.settings, plan.options, trains=trains)


def run_study(settings: StudySettings, listener: Listener | None = None) -> StudyResult:
    """Run a study, or go on with it where an earlier run was cut off.

    Raises:
        FettleError: Something the user can mend; what was finished is kept.
    """
    plan = plan_study(settings)
    with plan.loaded.in_use():
        return run_plan(plan, listener or SilentListener())


def run_plan(
    plan: StudyPlan,
    listener: Listener,
    *,
    expected: Estimate | None = None,
    command: Sequence[str] | None = None,
    keeper: Keeper | None = None,
) -> StudyResult:
    """Run a planned study; see `run_study`.

    Args:
        plan: What `plan_study` made.
        listener: Is told how far it is.
        expected: What `estimate_study` said, to be kept beside what the training took; None: its memory alone is planned.
        command: The words of the command line to print in the report; None: a call of `run_study`.
        keeper: Keeps what came of it beside the study's folder; None: nobody does.
    """
    keeper = keeper or NoKeeper()
    require_countable(get_settings().home)
    if plan.settings.precision is Precision.AUTO:
        keep_choice(get_settings().home)
    ladder = _ladder(plan, listener)
    remote = _remote(plan, ladder)
    folder_of_study = workspace(plan.folder, key=plan.key, fresh=plan.settings.fresh)
    with (
        memory_errors_explained("answering"),
        folder_of_study as folder,
        keeper.while_running(),
        _engines(plan, folder, listener) as engines,
    ):
        base_engine = engines.base()
        untuned = _untuned(plan, ladder, remote, base_engine)
        baseline = best_rung(untuned)
        check = None if plan.settings.forgetting is None else ForgettingCheck(plan, folder, listener)
        if check is not None:
            check.ask_base(base_engine)
        with base_of(plan.settings.training.method, plan.loaded) as base:
            trained = None if plan.given is not None else _trained(plan, base, listener, expected)
            tuned_folder = _tuned_folder(plan, trained)
            engine = tuned_engine(plan, base, tuned_folder, engines)
            tuned = ladder.best([tuned_arm(plan, engine, tuned_folder)])
            declaration = declare(
                declared_comparison(plan, baseline, tuned),
                num_failed=sum(rung.num_failed for rung in untuned),
                file=folder / "declaration.json",
            )
            looks = count_look(get_settings().home, test_sha256=plan.data.test_sha256(), study_key=plan.key)
            listener.on_message(declaration)
            tested = [_test(ladder, tuned, folder)]
            forgotten = None if check is None else _forgotten(check, engine, tuned, base, tuned_folder)
            engine.close()
        tested += [_test(ladder, rung, folder) for rung in untuned]
        hashes = Hashes(
            data=plan.data.file_sha256,
            split=plan.data.split_sha256(),
            template=plan.loaded.renderer.template.sha256,
            model=plan.loaded.source.sha256(),
        )
        shown = shown_command(command, plan.settings)
        origin = provenance(plan.settings, hashes, plan.data.instruction, command=shown, looks=looks)
        report = assembled_report(plan, tested, trained, baseline=baseline, declaration=declaration, origin=origin)
        report = report if forgotten is None else report_with(report, forgotten)
        result = StudyResult(report=report, paths=write_report(report, folder), tuned=tuned_folder)
        keeper.keep(result)
        return result


def _trained(plan: StudyPlan, base: LoadedModel, listener: Listener, expected: Estimate | None) -> TrainingResult:
    return train(
        base,
        plan.tokens.train,
        plan.tokens.valid,
        plan.settings.training,
        folder=plan.folder / "training",
        run_key=plan.key,
        on_event=training_listener(listener),
        planned=None if expected is None else expected.training,
    )


def _tuned_folder(plan: StudyPlan, trained: TrainingResult | None) -> Path:
    if trained is not None:
        return trained.tuned
    assert plan.given is not None, "a study trains a model or is given one"
    return plan.given.folder


def _ladder(plan: StudyPlan, listener: Listener) -> Ladder:
    return Ladder(
        split=plan.split,
        task=plan.data.task,
        primary=plan.graders[0],
        options=plan.options,
        folder=plan.folder,
        listener=listener,
        style_rules=_style_rules(plan),
        shot_characters=_shot_characters(plan.loaded.max_tokens - plan.options.max_new_tokens),
        seed=plan.settings.seed,
    )


def _shot_characters(num_tokens: int) -> int:
    """Bound on the text of few-shot examples that leaves half of so many tokens to the rest of the prompt.

    >>> _shot_characters(8_000), _shot_characters(1_000)
    (6000, 1500)
    """
    return min(_MOST_SHOT_CHARACTERS, num_tokens // 2 * _CHARACTERS_PER_TOKEN)


def _remote(plan: StudyPlan, ladder: Ladder) -> LanguageModel | None:
    """The remote contender. Where there is something new to ask, the endpoint must answer.

    Made before the study's folder is, so that a wrong address leaves nothing behind.
    """
    remote = plan.settings.remote
    if remote is None:
        return None
    hint = derive_hint(plan.data.task, plan.split.train, _style_rules(plan))
    engine = OpenAIEngine(remote.url, remote.model)
    contender = LanguageModel(
        name="remote",
        title=f"Remote: {remote.model}",
        engine=engine,
        style=OwnPrompt(hint),
        task=plan.data.task,
        options=plan.options,
        is_remote=True,
    )
    if plan.settings.fresh or not ladder.was_asked(contender):
        engine.require_reachable()
    return contender


def _style_rules(plan: StudyPlan) -> tuple[str, ...]:
    return tuple(rule.describe() for g in plan.graders if isinstance(g, HouseStyle) for rule in g.rules)


def _engines(plan: StudyPlan, folder: Path, listener: Listener) -> closing[StudyEngines]:
    rows = check_rows_of(plan.loaded, plan.split.valid[:NUM_CHECK_PROMPTS])
    engines = StudyEngines(plan.settings, plan.loaded, rows, folder=folder, listener=listener, key=plan.key)
    return closing(engines)


def _untuned(plan: StudyPlan, ladder: Ladder, remote: LanguageModel | None, engine: Engine) -> list[Rung]:
    """Every contender without fine-tuning."""
    rungs = [] if remote is None else [ladder.best([remote])]
    if plan.data.task.kind is TaskKind.LABELS:
        rungs.append(ladder.classifier())
    rungs.append(ladder.constant())
    return rungs + ladder.untuned(engine, plan.key)


def _forgotten(
    check: ForgettingCheck, engine: Engine, tuned: Rung, base: LoadedModel, tuned_folder: Path
) -> Forgetting:
    """What the tuned model has forgotten; its engine is closed, so that the base model is bare again."""
    replies = check.ask_tuned(engine, tuned.contender.identity())
    engine.close()
    return check.found(replies, check.divergence(base, tuned_folder))


def _test(ladder: Ladder, rung: Rung, folder: Path) -> TestedRung:
    file = folder / "answers" / "latency" / f"{rung.contender.name}.jsonl"
    warm_up = ladder.split.valid[0]
    latencies = measure_latency(rung.contender, ladder.split.test, warm_up=warm_up, file=file)
    return TestedRung(rung=rung, answers=ladder.answer_test(rung), latencies=latencies)
