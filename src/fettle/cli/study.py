"""`fettle study`: from labelled examples to a verdict and a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fettle.cli.columns import EncodingOption
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
from fettle.cli.study_choices import CheckpointingOption, MethodOption, PrecisionOption, ScheduleOption, VariantOption
from fettle.cli.study_judge import ask_judge, judge_source, public_words
from fettle.cli.study_plan import print_plan
from fettle.errors import EXIT_CANNOT_TELL, EXIT_SHIP, EXIT_STAY, ConfigError
from fettle.records import Decision, TaskKind

if TYPE_CHECKING:
    from fettle.cli.judge import JudgeSource
    from fettle.report_records import TrainingSummary
    from fettle.study.settings import StudySettings

_EXIT_CODES = {Decision.SHIP: EXIT_SHIP, Decision.STAY: EXIT_STAY, Decision.CANNOT_TELL: EXIT_CANNOT_TELL}
_DEFAULT_RANK = 16
_DATA, _MODEL, _TRAINING, _RUN = "Data", "Models", "Training", "Running"


def study(
    examples: Annotated[
        Path,
        typer.Argument(
            help="File or folder of labelled examples; or example:triage, example:routing, example:replies."
        ),
    ],
    input_column: Annotated[
        str | None, typer.Option("--input", help="Column or key with the message.", rich_help_panel=_DATA)
    ] = None,
    answer_column: Annotated[
        str | None, typer.Option("--answer", help="Column or key with the wanted answer.", rich_help_panel=_DATA)
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            "--group", help="Column or key; rows with the same value stay in one split.", rich_help_panel=_DATA
        ),
    ] = None,
    encoding: EncodingOption = None,
    valid: Annotated[Path | None, typer.Option(help="Your own validation file.", rich_help_panel=_DATA)] = None,
    test: Annotated[
        Path | None,
        typer.Option(help="Your own test file; EXAMPLES are then the training examples.", rich_help_panel=_DATA),
    ] = None,
    train_size: Annotated[
        int | None, typer.Option(min=1, help="Use only so many training examples.", rich_help_panel=_DATA)
    ] = None,
    valid_size: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Validation examples: a number, or a share below 1; of your own file, where you give one.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    test_size: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Test examples: a number, or a share below 1; of your own file, where you give one.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option(help="The instruction all contenders get; @FILE reads it from a file.", rich_help_panel=_DATA),
    ] = None,
    task: Annotated[
        TaskKind | None,
        typer.Option(help="What kind of answer it is; recognised when left out.", rich_help_panel=_DATA),
    ] = None,
    grader: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="What decides: the name of a built-in grader, or a JSON file with a grader of OpenAI's API (@FILE where the two "
            "have one name). Given again, the others are shown beside it.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    grader_url: Annotated[
        str | None,
        typer.Option(
            help="Base URL of the OpenAI-compatible endpoint that graders ask their models at. The key: FETTLE_REMOTE_API_KEY.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    grader_prices: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="PROMPT REPLY",
            help="What a million tokens of that endpoint cost, of prompts and of replies, in any currency.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    leave_out_long: Annotated[
        bool,
        typer.Option("--leave-out-long", help="Leave out examples longer than the model takes.", rich_help_panel=_DATA),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model to tune: a folder, a .gguf file, org/name. Default: the embedded one.", rich_help_panel=_MODEL
        ),
    ] = None,
    precision: Annotated[
        PrecisionOption,
        typer.Option(
            help="exact: fp32. fast: bf16. auto: fast where that is faster on this machine.", rich_help_panel=_MODEL
        ),
    ] = PrecisionOption.AUTO,
    answer_with: Annotated[
        str,
        typer.Option(
            metavar="ENGINE",
            help="What answers for the base and the tuned model: local (the reference), openvino, llamacpp, or vllm=URL. "
            "Refused unless it answers as the reference does.",
            rich_help_panel=_MODEL,
        ),
    ] = "local",
    remote: Annotated[
        str | None,
        typer.Option(help="Base URL of an OpenAI-compatible endpoint, as one more contender.", rich_help_panel=_MODEL),
    ] = None,
    remote_model: Annotated[
        str | None, typer.Option(help="Its name for the model. The key: FETTLE_REMOTE_API_KEY.", rich_help_panel=_MODEL)
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(
            help="Base URL of an endpoint with a judge, asked about the finished study as `fettle judge` does.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="Its name for the judge. The key: FETTLE_REMOTE_API_KEY.", rich_help_panel=_MODEL)
    ] = None,
    rubric: Annotated[
        Path | None,
        typer.Option(help="Text file that tells the judge what makes an answer better.", rich_help_panel=_MODEL),
    ] = None,
    method: Annotated[
        MethodOption,
        typer.Option(
            help="lora: a small adapter. qlora: beside a base model in 4 bits, with less memory. "
            "full: all weights, with several times the memory.",
            rich_help_panel=_TRAINING,
        ),
    ] = MethodOption.LORA,
    epochs: Annotated[
        int, typer.Option(min=1, help="Passes over the training examples, at most.", rich_help_panel=_TRAINING)
    ] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per step.", rich_help_panel=_TRAINING)] = 16,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Peak learning rate; derived from the model's size when left out.", rich_help_panel=_TRAINING
        ),
    ] = None,
    schedule: Annotated[
        ScheduleOption,
        typer.Option(help="How the learning rate goes on after its warm-up.", rich_help_panel=_TRAINING),
    ] = ScheduleOption.COSINE,
    rank: Annotated[int, typer.Option(min=1, help="LoRA rank.", rich_help_panel=_TRAINING)] = _DEFAULT_RANK,
    lora_variant: Annotated[
        VariantOption,
        typer.Option(
            help="rslora: high ranks learn as fast as low ones. dora: lengths of weights apart; slower.",
            rich_help_panel=_TRAINING,
        ),
    ] = VariantOption.LORA,
    processes: Annotated[
        int,
        typer.Option(min=1, help="Processes that share the training; a GPU each.", rich_help_panel=_TRAINING),
    ] = 1,
    shard: Annotated[
        bool,
        typer.Option(
            "--shard",
            help="Divide the base model among the processes, for one that does not fit a GPU. Answers are slow then.",
            rich_help_panel=_TRAINING,
        ),
    ] = False,
    micro_batch_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tokens run at once; fewer need less memory. Left out: as many as fit, up to 4,096.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    checkpointing: Annotated[
        CheckpointingOption,
        typer.Option(
            help="Compute layers again in the backward pass instead of keeping them. auto: where memory asks for it.",
            rich_help_panel=_TRAINING,
        ),
    ] = CheckpointingOption.AUTO,
    price_per_hour: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="What the machine costs an hour, in any currency: plan and end then tell the cost.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    worthwhile: Annotated[
        float,
        typer.Option(
            min=0.0, max=100.0, help="Smallest gain worth a tuned model, percentage points.", rich_help_panel=_RUN
        ),
    ] = 1.0,
    search: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Try so many settings (learning rate, epochs, rank) on validation first, by successive halving.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    replay: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=50.0,
            help="Per cent of general examples, answered by the base model itself, among the training examples, so that less is "
            "forgotten; 0: none.",
            rich_help_panel=_TRAINING,
        ),
    ] = 3.0,
    learning_curve: Annotated[
        bool,
        typer.Option(
            "--learning-curve",
            help="Train on 25 and 50 % of the examples too, and say what more of them would probably bring.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    forgetting: ForgettingOption = True,
    strength_sweep: StrengthSweepOption = True,
    forgetting_budget: BudgetOption = None,
    must_still_work: MustStillWorkOption = None,
    harness_task: HarnessTaskOption = None,
    harness_path: HarnessPathOption = None,
    harness_limit: HarnessLimitOption = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Of the split, the shots, the adapter and the order of examples.", rich_help_panel=_RUN
        ),
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study. Default: one under FETTLE_HOME.", rich_help_panel=_RUN)
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of going on.", rich_help_panel=_RUN)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what the study will take and can show, and stop.", rich_help_panel=_RUN),
    ] = False,
) -> None:
    """Answer: should we fine-tune, and is it better than a good prompt? Exit code 0 ship, 3 stay, 4 cannot tell yet."""
    from fettle.answering.answer_with import parse_answer_with
    from fettle.cli.columns import mapping
    from fettle.cli.instruction import instruction_text
    from fettle.examples.split import SplitSizes
    from fettle.forgetting.replay import ReplaySettings
    from fettle.judging.settings import token_prices
    from fettle.models.adapter import LoraSettings, LoraVariant
    from fettle.models.precision import Precision
    from fettle.study.settings import RemoteModel, StudySettings
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
        sizes=SplitSizes(valid=_size(valid_size), test=_size(test_size), train=train_size),
        instruction=instruction_text(instruction),
        task=task,
        graders=tuple(grader or ()),
        grader_url=grader_url,
        grader_prices=None if grader_prices is None else token_prices(grader_prices),
        model=model,
        precision=Precision(precision.value),
        answer_with=parse_answer_with(answer_with),
        remote=None if remote is None or remote_model is None else RemoteModel(url=remote, model=remote_model),
        training=training,
        price_per_hour=price_per_hour,
        worthwhile=worthwhile / 100,
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
    with console.status("Reading the examples and loading the model"):
        plan = plan_study(settings)
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
    return _EXIT_CODES[result.report.verdict.decision]


def _plan_only(settings: StudySettings) -> int:
    from fettle.study.planning import plan_study

    console = Console()
    with console.status("Reading the examples and loading the model"):
        plan = plan_study(settings)
    with plan.loaded.in_use():
        print_plan(console, plan)
    return 0


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


def _size(value: float | None) -> float | int | None:
    if value is None or value < 1:
        return value
    if not value.is_integer():  # nor infinite
        raise ConfigError(
            f"expected a whole number of examples or a share below 1, and it is {value:g}",
            where="--valid-size, --test-size",
            remedy="give 50 for 50 examples, or 0.2 for a fifth of them",
        )
    return int(value)
