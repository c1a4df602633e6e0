"""The options of `fettle study` about models, endpoints and judges."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fettle.cli.study_choices import PrecisionOption

_PANEL = "Models"

GraderUrlOption = Annotated[
    str | None,
    typer.Option(
        help="Base URL of the OpenAI-compatible endpoint that graders ask their models at. The key: FETTLE_REMOTE_API_KEY.",
        rich_help_panel=_PANEL,
    ),
]
GraderPricesOption = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="PROMPT REPLY",
        help="What a million tokens of that endpoint cost, of prompts and of replies, in any currency.",
        rich_help_panel=_PANEL,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Model to tune: a folder, a .gguf file, org/name. Default: the embedded one.", rich_help_panel=_PANEL
    ),
]
PrecisionChoice = Annotated[
    PrecisionOption,
    typer.Option(
        help="exact: fp32. fast: bf16. auto: fast where that is faster on this machine.", rich_help_panel=_PANEL
    ),
]
AnswerWithOption = Annotated[
    str,
    typer.Option(
        metavar="ENGINE",
        help="What answers for the base and the tuned model: local (the reference), openvino, llamacpp, or vllm=URL. "
        "Refused unless it answers as the reference does.",
        rich_help_panel=_PANEL,
    ),
]
RemoteOption = Annotated[
    str | None,
    typer.Option(help="Base URL of an OpenAI-compatible endpoint, as one more contender.", rich_help_panel=_PANEL),
]
RemoteModelOption = Annotated[
    str | None, typer.Option(help="Its name for the model. The key: FETTLE_REMOTE_API_KEY.", rich_help_panel=_PANEL)
]
RouteToTargetOption = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=0.999,
        metavar="SCORE",
        help="Mean score, such as 0.9, that a router is to keep which sends the tuned model's unsure answers to the remote one. "
        "Default: 95 % of what the remote one reaches on validation.",
        rich_help_panel=_PANEL,
    ),
]
RouteSamplesOption = Annotated[
    int,
    typer.Option(
        max=20,
        metavar="N",
        help="Further answers that the tuned model draws to every validation and test example, 2 to 20, so that the router may "
        "go by how far they agree. For texts and JSON. 0: none.",
        rich_help_panel=_PANEL,
    ),
]
RouteConfidenceOption = Annotated[
    float,
    typer.Option(
        min=50.0, max=99.9, help="Confidence with which that score is promised, per cent.", rich_help_panel=_PANEL
    ),
]
JudgeUrlOption = Annotated[
    str | None,
    typer.Option(
        help="Base URL of an endpoint with a judge, asked about the finished study as `fettle judge` does.",
        rich_help_panel=_PANEL,
    ),
]
JudgeModelOption = Annotated[
    str | None, typer.Option(help="Its name for the judge. The key: FETTLE_REMOTE_API_KEY.", rich_help_panel=_PANEL)
]
RubricOption = Annotated[
    Path | None,
    typer.Option(help="Text file that tells the judge what makes an answer better.", rich_help_panel=_PANEL),
]
