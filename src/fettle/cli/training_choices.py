"""The options of `fettle study` about training."""

from __future__ import annotations

from typing import Annotated

import typer

from fettle.cli.study_choices import CheckpointingOption, MethodOption, ScheduleOption, VariantOption

_PANEL = "Training"

MethodChoice = Annotated[
    MethodOption,
    typer.Option(
        help="lora: a small adapter. qlora: beside a base model in 4 bits, with less memory. "
        "full: all weights, with several times the memory.",
        rich_help_panel=_PANEL,
    ),
]
EpochsOption = Annotated[
    int, typer.Option(min=1, help="Passes over the training examples, at most.", rich_help_panel=_PANEL)
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Examples per step.", rich_help_panel=_PANEL)]
LearningRateOption = Annotated[
    float | None,
    typer.Option(
        min=0.0, help="Peak learning rate; derived from the model's size when left out.", rich_help_panel=_PANEL
    ),
]
ScheduleChoice = Annotated[
    ScheduleOption,
    typer.Option(help="How the learning rate goes on after its warm-up.", rich_help_panel=_PANEL),
]
RankOption = Annotated[int, typer.Option(min=1, help="LoRA rank.", rich_help_panel=_PANEL)]
VariantChoice = Annotated[
    VariantOption,
    typer.Option(
        help="rslora: high ranks learn as fast as low ones. dora: lengths of weights apart; slower.",
        rich_help_panel=_PANEL,
    ),
]
ProcessesOption = Annotated[
    int,
    typer.Option(min=1, help="Processes that share the training; a GPU each.", rich_help_panel=_PANEL),
]
ShardOption = Annotated[
    bool,
    typer.Option(
        "--shard",
        help="Divide the base model among the processes, for one that does not fit a GPU. Answers are slow then.",
        rich_help_panel=_PANEL,
    ),
]
MicroBatchTokensOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Tokens run at once; fewer need less memory. Left out: as many as fit, up to 4,096.",
        rich_help_panel=_PANEL,
    ),
]
CheckpointingChoice = Annotated[
    CheckpointingOption,
    typer.Option(
        help="Compute layers again in the backward pass instead of keeping them. auto: where memory asks for it.",
        rich_help_panel=_PANEL,
    ),
]
SearchOption = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        help="Try so many settings (learning rate, epochs, rank) on validation first, by successive halving.",
        rich_help_panel=_PANEL,
    ),
]
ReplayOption = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=50.0,
        help="Per cent of general examples, answered by the base model itself, among the training examples, so that less is "
        "forgotten; 0: none.",
        rich_help_panel=_PANEL,
    ),
]
