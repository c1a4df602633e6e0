"""`fettle export`: what was tuned, in a format that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fettle.export.settings import ExportFormat, ExportSettings, WeightType

if TYPE_CHECKING:
    from fettle.export.run import Exported


Out = Annotated[Path, typer.Option(help="The folder to write; with --format gguf the file, NAME.gguf.")]
Format = Annotated[
    ExportFormat,
    typer.Option(
        "--format", help="adapter: a PEFT folder. merged: a whole model, safetensors. gguf: a file for llama.cpp."
    ),
]
Weights = Annotated[
    WeightType | None,
    typer.Option(
        "--type",
        help="How weights are stored. Default: merged as the base model is, gguf q8_0. merged knows f32, f16, bf16.",
    ),
]


def export(
    source: Annotated[
        Path, typer.Argument(help="Folder of a study, of a PEFT adapter, or of a model tuned as a whole.")
    ],
    out: Out,
    format_: Format = ExportFormat.MERGED,
    weight_type: Weights = None,
    model: Annotated[
        str | None, typer.Option(help="The base model. Default: the one that the study or the adapter names.")
    ] = None,
) -> None:
    """Write the tuned model of SOURCE for other tools. What is written is read back, and must answer as the tuned model does."""
    settings = ExportSettings(
        source=source,
        format=format_,
        out=out,
        weight_type=weight_type,
        model=model,
    )
    export_and_say(settings)


def export_and_say(settings: ExportSettings) -> None:
    """Export, with progress, and say what was written and how it answers."""
    from fettle.cli.progress import ProgressBars
    from fettle.export.run import export as run_export

    console = Console()
    with ProgressBars(console) as bars:
        exported = run_export(settings, bars)
    _print_exported(console, exported)


def _print_exported(console: Console, exported: Exported) -> None:
    """Say what was written, and how it answers."""
    from fettle.study.figures import byte_size

    lines = list(exported.notes)
    if exported.merge is not None:
        lines.append(f"The merged weights beside the adapter: {exported.merge.describe()}.")
    if exported.written is not None:
        base = f"; the base model is {exported.tuning.kl_nats:.2g} nats away" if exported.tuning is not None else ""
        lines.append(f"Read back, as {exported.weight_type}: {exported.written.describe()}{base}.")
    kind = "an adapter" if exported.weight_type is None else str(exported.weight_type)
    lines.append(f"Written: {exported.path} ({kind}, {byte_size(exported.num_bytes)})")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
