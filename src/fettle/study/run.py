"""One study from files to verdict. Every stage leaves its result in the study's folder and is skipped when that is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from fettle.answering.answer_with import EngineKind
from fettle.answering.engine import Engine
from fettle.answering.engines.openai_http import OpenAIEngine
from fettle.contenders.instruction import derive_hint
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.prompt import OwnPrompt
from fettle.errors import memory_errors_explained
from fettle.models.device import chosen_device
from fettle.models.load import LoadedModel
from fettle.models.precision import Precision, keep_choice
from fettle.progress import Listener, SilentListener
from fettle.records import TaskKind
from fettle.report_records import Forgetting, Provenance, StudyReport, TunedBeside
from fettle.routing_records import RoutingReport
from fettle.scoring.graders.house_style import HouseStyle
from fettle.settings import get_settings
from fettle.study.answers import measure_latency
from fettle.study.arms import ArmFault, answering_as, require_all_answered, require_fairly_asked, told_as
from fettle.study.assembled_report import assembled_report
from fettle.study.curve import study_curve
from fettle.study.declaration import declare, declared_comparison
from fettle.study.economics_report import on_machine, read_prices, require_priced, with_money
from fettle.study.engines import StudyEngines, check_rows_of
from fettle.study.forgetting import report_with
from fettle.study.grading import keeping_grades, with_wanted_asked
from fettle.study.keeper import Keeper, NoKeeper
from fettle.study.kept_personal import keep_personal
from fettle.study.kept_prompts import keep_prompts
from fettle.study.ladder import Ladder, Rung, best_rung
from fettle.study.looks import Looks, count_look, require_countable
from fettle.study.passages import retrieval_rung, tuned_plans
from fettle.study.plan import Estimate
from fettle.study.planning import StudyPlan, plan_study
from fettle.study.provenance import Hashes, provenance, shown_command
from fettle.study.report import ReportPaths, write_report
from fettle.study.results import TestedRung, by_name
from fettle.study.retrieval_report import retrieval_report, warnings_of_documents
from fettle.study.router_samples import Samples, draw_samples
from fettle.study.routing_report import routing_report, warnings_of_routing
from fettle.study.settings import StudySettings
from fettle.study.tuned import NUM_CHECK_PROMPTS
from fettle.study.tuned_arms import Making, TunedArm, made_arms
from fettle.study.tuning import TunedModel
from fettle.study.workspace import workspace
from fettle.training.base import base_of
from fettle.tuning_records import LearningCurve

_MOST_SHOT_CHARACTERS = 6000
REMOTE = "remote"
"""The key of the remote contender."""
_CHARACTERS_PER_TOKEN = 3  # of European languages 3 to 5; a prompt that gets too long all the same is given fewer shots


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """A finished study."""

    report: StudyReport
    paths: ReportPaths
    model: TunedModel
    """The tuned contender that the verdict is about."""

    @property
    def tuned(self) -> Path:
        """The tuned model: the PEFT folder of an adapter, or the folder of a whole model."""
        return self.model.folder


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
    prices = read_prices(get_settings().home)
    money = on_machine(
        plan.settings.economics,
        is_gpu=chosen_device().type == "cuda",
        price_per_hour=plan.settings.price_per_hour,
    )
    require_priced(money, prices, plan.settings.remote)
    if plan.settings.precision is Precision.AUTO:
        keep_choice(get_settings().home)
    plan = keeping_grades(plan, listener)
    ladder = _ladder(plan, listener)
    remote = _remote(plan, ladder)
    folder_of_study = workspace(plan.folder, key=plan.key, fresh=plan.settings.fresh)
    with (
        memory_errors_explained("answering"),
        folder_of_study as folder,
        keeper.while_running(),
        _engines(plan, folder, listener) as engines,
    ):
        plan = with_wanted_asked(plan, listener)
        with told_as(ArmFault.BASE_WITH_ADAPTER, otherwise=ArmFault.OTHER_BASE):
            base_engine = engines.base()
        with told_as(ArmFault.BASE_WITH_ADAPTER):
            untuned = _untuned(plan, ladder, remote, base_engine)
        baseline = best_rung(untuned)
        with base_of(plan.settings.training.method, plan.loaded) as base:
            making = Making(
                base=base,
                base_engine=base_engine,
                engines=engines,
                ladder=ladder,
                listener=listener,
                expected=expected,
            )
            arms = made_arms(tuned_plans(plan, untuned, listener), making)
            looks = count_look(get_settings().home, test_sha256=plan.data.test_sha256(), study_key=plan.key)
            declaration = _declared(plan, untuned, baseline, arms, looks, listener)
            tested, forgotten, samples = [], [], None
            for arm in arms:
                tested.append(_test(ladder, arm.open(), folder))
                if arm is arms[0]:
                    samples = draw_samples(ladder, tested[0].rung, plan.settings.routing.num_samples, listener)
                forgotten.append(arm.forgotten())
                arm.close()
            curve = _curve(arms[0].model, base, tested[0], ladder, listener)
        with told_as(ArmFault.BASE_WITH_ADAPTER):
            engines.require_base()
        tested += [_test(ladder, rung, folder) for rung in untuned]
        report = assembled_report(
            plan,
            tested,
            arms[0].model,
            baseline=baseline,
            declaration=declaration,
            origin=_origin(plan, command, looks),
            level=looks.level,
        )
        report = replace(
            report,
            learning_curve=curve,
            tuned_beside=_beside(arms, forgotten),
            retrieval=None if plan.documents is None else retrieval_report(plan, plan.documents, tested),
            routing=(routing := _routing(plan, tested, looks, samples)),
            warnings=(
                *report.warnings,
                *warnings_of_documents(plan.findings),
                *warnings_of_routing(plan, routing),
            ),
        )
        report = report if forgotten[0] is None else report_with(report, forgotten[0])
        report = with_money(report, money, prices)
        keep_prompts(plan.split.test, plan.data.instruction.text, folder, key=plan.key)
        keep_personal(plan.split.train, folder, key=plan.key)
        result = StudyResult(report=report, paths=write_report(report, folder), model=arms[0].model)
        keeper.keep(result)
        return result


def _declared(
    plan: StudyPlan,
    untuned: Sequence[Rung],
    baseline: Rung,
    arms: Sequence[TunedArm],
    looks: Looks,
    listener: Listener,
) -> str:
    """The primary comparison, written down and told before the test split is answered."""
    tuned = [arm.rung for arm in arms]
    declaration = declare(
        declared_comparison(plan, baseline, tuned, looks),
        num_failed=sum(rung.num_failed for rung in (*untuned, *tuned)),
        file=plan.folder / "declaration.json",
    )
    listener.on_message(declaration)
    return declaration


def _curve(
    model: TunedModel, base: LoadedModel, tuned: TestedRung, ladder: Ladder, listener: Listener
) -> LearningCurve | None:
    if model.trained is None or not model.plan.settings.learning_curve:
        return None
    return study_curve(model.plan, base, model.trained, tuned, ladder, listener, strength=model.strength)


def _routing(
    plan: StudyPlan, tested: Sequence[TestedRung], looks: Looks, samples: Samples | None
) -> RoutingReport | None:
    """The router made of the tuned contender that the verdict is about and of the remote one, where there is one."""
    if plan.settings.remote is None:
        return None
    return routing_report(plan, tested[0], by_name(tested, REMOTE), looks, samples=samples)


def _origin(plan: StudyPlan, command: Sequence[str] | None, looks: Looks) -> Provenance:
    hashes = Hashes(
        data=plan.data.file_sha256,
        split=plan.data.split_sha256(),
        template=plan.loaded.renderer.template.sha256,
        model=plan.loaded.source.sha256(),
    )
    shown = shown_command(command, plan.settings)
    is_local = plan.settings.answer_with.kind is EngineKind.LOCAL
    precision = plan.loaded.precision if is_local else None
    return provenance(plan.settings, hashes, plan.data.instruction, command=shown, looks=looks, precision=precision)


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
        name=REMOTE,
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
    if plan.documents is not None:
        rungs.append(retrieval_rung(plan, ladder, engine))
    return rungs + ladder.untuned(engine, plan.key)


def _beside(arms: Sequence[TunedArm], forgotten: Sequence[Forgetting | None]) -> tuple[TunedBeside, ...]:
    """What is told of the tuned contenders that the verdict is not about."""
    return tuple(
        TunedBeside(
            contender=arm.name,
            tuned_path=str(arm.folder),
            training=arm.model.training_summary(),
            strength_sweep=arm.model.sweep,
            forgetting=lost,
        )
        for arm, lost in zip(arms[1:], forgotten[1:], strict=True)
    )


def _test(ladder: Ladder, rung: Rung, folder: Path) -> TestedRung:
    file = folder / "answers" / "latency" / f"{rung.contender.name}.jsonl"
    warm_up = ladder.split.valid[0]
    require_fairly_asked(rung.contender, ladder.split.test)
    with answering_as(rung.contender):
        latencies = measure_latency(rung.contender, ladder.split.test, warm_up=warm_up, file=file)
        answers = ladder.answer_test(rung)
    require_all_answered(rung.contender, ladder.split.test, answers)
    return TestedRung(rung=rung, answers=answers, latencies=latencies)
