"""`fettle study`: from labelled examples to a verdict and a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fettle.cli.columns import EncodingOption
from fettle.cli.data_choices import (
    AnswerColumnOption,
    GraderOption,
    GroupColumnOption,
    InputColumnOption,
    InstructionOption,
    LeaveOutLongOption,
    TaskKindOption,
    TestFileOption,
    TestSizeOption,
    TrainSizeOption,
    ValidFileOption,
    ValidSizeOption,
)
from fettle.cli.document_choices import (
    DEFAULT_RERANKER,
    DocumentsOption,
    EmbedderOption,
    IndexOption,
    NumPassagesOption,
    OverlapTokensOption,
    PassageBudgetOption,
    PassageTokensOption,
    RerankerOption,
    SearchByChoice,
    SearchByOption,
    document_settings,
)
from fettle.cli.forgetting_choices import (
    BudgetOption,
    ForgettingOption,
    HarnessLimitOption,
    HarnessPathOption,
    HarnessTaskOption,
    MustStillWorkOption,
    StrengthSweepOption,
    forgetting_settings,
    harness_settings,
)
from fettle.cli.model_choices import (
    AnswerWithOption,
    GraderPricesOption,
    GraderUrlOption,
    JudgeModelOption,
    JudgeUrlOption,
    ModelOption,
    PrecisionChoice,
    RemoteModelOption,
    RemoteOption,
    RouteConfidenceOption,
    RouteSamplesOption,
    RouteToTargetOption,
    RubricOption,
)
from fettle.cli.money_choices import EconomicsOption, assumptions_of
from fettle.cli.running_choices import (
    DryRunOption,
    FreshOption,
    LearningCurveOption,
    MaxNewTokensOption,
    PricePerHourOption,
    SeedOption,
    StudyFolderOption,
    StudyProjectOption,
    WorthwhileOption,
)
from fettle.cli.study_choices import CheckpointingOption, MethodOption, PrecisionOption, ScheduleOption, VariantOption
from fettle.cli.study_judge import ask_judge, judge_source, public_words
from fettle.cli.study_plan import print_plan
from fettle.cli.training_choices import (
    BatchSizeOption,
    CheckpointingChoice,
    EpochsOption,
    LearningRateOption,
    MethodChoice,
    MicroBatchTokensOption,
    ProcessesOption,
    RankOption,
    ReplayOption,
    ScheduleChoice,
    SearchOption,
    ShardOption,
    VariantChoice,
)
from fettle.errors import EXIT_CANNOT_TELL, EXIT_SHIP, EXIT_STAY, ConfigError
from fettle.records import Decision

if TYPE_CHECKING:
    from fettle.cli.judge import JudgeSource
    from fettle.report_records import TrainingSummary
    from fettle.study.planning import StudyPlan
    from fettle.study.settings import StudySettings

_EXIT_CODES = {Decision.SHIP: EXIT_SHIP, Decision.STAY: EXIT_STAY, Decision.CANNOT_TELL: EXIT_CANNOT_TELL}
_DEFAULT_RANK = 16


def study(
    examples: Annotated[
        Path,
        typer.Argument(
            help="File or folder of labelled examples; or example:triage, example:routing, example:replies."
        ),
    ],
    input_column: InputColumnOption = None,
    answer_column: AnswerColumnOption = None,
    group_column: GroupColumnOption = None,
    encoding: EncodingOption = None,
    valid: ValidFileOption = None,
    test: TestFileOption = None,
    train_size: TrainSizeOption = None,
    valid_size: ValidSizeOption = None,
    test_size: TestSizeOption = None,
    instruction: InstructionOption = None,
    task: TaskKindOption = None,
    grader: GraderOption = None,
    grader_url: GraderUrlOption = None,
    grader_prices: GraderPricesOption = None,
    leave_out_long: LeaveOutLongOption = False,
    documents: DocumentsOption = None,
    index: IndexOption = None,
    embedder: EmbedderOption = None,
    passage_tokens: PassageTokensOption = None,
    overlap_tokens: OverlapTokensOption = None,
    num_passages: NumPassagesOption = 5,
    passage_budget: PassageBudgetOption = None,
    search_by: SearchByChoice = SearchByOption.HYBRID,
    reranker: RerankerOption = DEFAULT_RERANKER,
    model: ModelOption = None,
    precision: PrecisionChoice = PrecisionOption.AUTO,
    answer_with: AnswerWithOption = "local",
    remote: RemoteOption = None,
    remote_model: RemoteModelOption = None,
    route_to_target: RouteToTargetOption = None,
    route_confidence: RouteConfidenceOption = 95.0,
    route_samples: RouteSamplesOption = 0,
    judge_url: JudgeUrlOption = None,
    judge_model: JudgeModelOption = None,
    rubric: RubricOption = None,
    method: MethodChoice = MethodOption.LORA,
    epochs: EpochsOption = 3,
    batch_size: BatchSizeOption = 16,
    learning_rate: LearningRateOption = None,
    schedule: ScheduleChoice = ScheduleOption.COSINE,
    rank: RankOption = _DEFAULT_RANK,
    lora_variant: VariantChoice = VariantOption.LORA,
    processes: ProcessesOption = 1,
    shard: ShardOption = False,
    micro_batch_tokens: MicroBatchTokensOption = None,
    checkpointing: CheckpointingChoice = CheckpointingOption.AUTO,
    price_per_hour: PricePerHourOption = None,
    economics: EconomicsOption = None,
    worthwhile: WorthwhileOption = 1.0,
    max_new_tokens: MaxNewTokensOption = None,
    search: SearchOption = None,
    replay: ReplayOption = 3.0,
    learning_curve: LearningCurveOption = False,
    forgetting: ForgettingOption = True,
    strength_sweep: StrengthSweepOption = True,
    forgetting_budget: BudgetOption = None,
    must_still_work: MustStillWorkOption = None,
    harness_task: HarnessTaskOption = None,
    harness_path: HarnessPathOption = None,
    harness_limit: HarnessLimitOption = None,
    seed: SeedOption = 0,
    out: StudyFolderOption = None,
    project: StudyProjectOption = "default",
    fresh: FreshOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Answer: should we fine-tune, and is it better than a good prompt? Exit code 0 ship, 3 stay, 4 cannot tell yet."""
    from fettle.answering.answer_with import parse_answer_with
    from fettle.cli.columns import mapping
    from fettle.cli.instruction import instruction_text
    from fettle.cli.sizes import split_size
    from fettle.examples.split import SplitSizes
    from fettle.forgetting.replay import ReplaySettings
    from fettle.judging.settings import token_prices
    from fettle.models.adapter import LoraSettings, LoraVariant
    from fettle.models.precision import Precision
    from fettle.study.settings import RemoteModel, RoutingSettings, StudySettings
    from fettle.training.settings import Checkpointing, Method, Schedule, TrainingSettings

    if (remote is None) != (remote_model is None):
        raise ConfigError("--remote and --remote-model go together", remedy="give the URL and the model's name")
    if method is MethodOption.FULL and (rank, lora_variant) != (_DEFAULT_RANK, VariantOption.LORA):
        raise ConfigError(
            "--rank and --lora-variant shape an adapter, and --method full trains none", remedy="leave them out"
        )
    training = TrainingSettings(
        method=Method(method.value),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=Schedule(schedule.value),
        processes=processes,
        shard=shard,
        micro_batch_tokens=micro_batch_tokens,
        checkpointing=Checkpointing(checkpointing.value),
        seed=seed,
        lora=LoraSettings.of_rank(rank, LoraVariant(lora_variant.value)),
    )
    settings = StudySettings(
        examples=examples,
        columns=mapping(input_column, answer_column, group_column=group_column),
        encoding=encoding,
        valid=valid,
        test=test,
        sizes=SplitSizes(valid=split_size(valid_size), test=split_size(test_size), train=train_size),
        instruction=instruction_text(instruction),
        task=task,
        graders=tuple(grader or ()),
        grader_url=grader_url,
        grader_prices=None if grader_prices is None else token_prices(grader_prices),
        model=model,
        precision=Precision(precision.value),
        answer_with=parse_answer_with(answer_with),
        remote=None if remote is None or remote_model is None else RemoteModel(url=remote, model=remote_model),
        routing=RoutingSettings(target=route_to_target, level=route_confidence / 100, num_samples=route_samples),
        documents=document_settings(
            documents,
            index,
            embedder=embedder,
            passage_tokens=passage_tokens,
            overlap_tokens=overlap_tokens,
            num_passages=num_passages,
            passage_budget=passage_budget,
            search_by=search_by,
            reranker=reranker,
        ),
        training=training,
        price_per_hour=price_per_hour,
        economics=assumptions_of(economics),
        worthwhile=worthwhile / 100,
        max_new_tokens=max_new_tokens,
        num_trials=search,
        learning_curve=learning_curve,
        replay=ReplaySettings(share=replay / 100),
        forgetting=forgetting_settings(
            forgetting_budget,
            must_still_work,
            harness_settings(harness_task, harness_path, harness_limit),
            sweeps=strength_sweep,
            is_wanted=forgetting,
        ),
        leave_out_long=leave_out_long,
        seed=seed,
        out=out,
        project=project,
        fresh=fresh,
    )
    judge = judge_source(judge_url, judge_model, rubric)
    raise typer.Exit(_plan_only(settings) if dry_run else _run(settings, judge))


def _run(settings: StudySettings, judge: JudgeSource | None) -> int:
    """Run the study, or take part in one; the exit code."""
    from fettle.cli.progress import ProgressBars
    from fettle.cli.store import open_store
    from fettle.jobs.study_job import StudyJob
    from fettle.settings import get_launch, get_settings
    from fettle.study.planning import plan_study
    from fettle.study.run import run_plan
    from fettle.study.summary import print_summary
    from fettle.study.trained import share_training

    launch = get_launch()
    if launch is not None and launch.rank > 0:
        share_training(plan_study(settings))
        return 0
    console = Console()
    plan = _planned(settings, console)
    with plan.loaded.in_use():
        expected = print_plan(console, plan)
        with ProgressBars(console) as bars:
            kept = StudyJob(open_store(), plan, bars, lease_seconds=get_settings().lease_seconds)
            result = run_plan(plan, kept, expected=expected, command=public_words(sys.argv, judge), keeper=kept)
    console.print()
    print_summary(result.report, console, paths=result.paths)
    console.print(f"Tuned model: {result.tuned}", highlight=False, soft_wrap=True)
    if result.report.training is not None:
        console.print(_as_planned(result.report.training), highlight=False, soft_wrap=True)
    if judge is not None:
        ask_judge(console, result, judge)
    console.print(f"What next: fettle advise {shlex.quote(str(plan.folder))}", highlight=False, soft_wrap=True)
    return _EXIT_CODES[result.report.verdict.decision]


def _plan_only(settings: StudySettings) -> int:
    console = Console()
    plan = _planned(settings, console)
    with plan.loaded.in_use():
        print_plan(console, plan)
    return 0


def _planned(settings: StudySettings, console: Console) -> StudyPlan:
    """The plan of a study; indexing its documents, where there are, is seen as it goes."""
    from fettle.cli.progress import ProgressBars
    from fettle.study.planning import plan_study

    if settings.documents is not None:
        with ProgressBars(console) as bars:
            return plan_study(settings, bars)
    with console.status("Reading the examples and loading the model"):
        return plan_study(settings)


def _as_planned(training: TrainingSummary) -> str:
    """What it took beside what was planned."""
    from fettle.study.figures import amount, byte_size

    took = f"Training took {training.seconds / 60:.1f} minutes"
    held = f"and {byte_size(training.peak_memory_bytes)} of memory"
    if (planned := training.planned) is None:
        return f"{took} {held}"
    told = (
        f"{took} ({planned.seconds / 60:.1f} were planned for all epochs) "
        f"{held} (planned: about {byte_size(planned.peak_memory_bytes)})"
    )
    actual_price, planned_price = planned.price_of(training.seconds), planned.price
    if actual_price is None or planned_price is None:
        return told
    return f"{told}; it cost {amount(actual_price)} (planned: {amount(planned_price)})"
