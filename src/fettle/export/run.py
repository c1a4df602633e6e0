"""From what was tuned to a file or folder that other tools read, shown to answer as the tuned model does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fettle.errors import ModelError
from fettle.export.compare import Difference
from fettle.export.error_feedback import rounded_with_feedback
from fettle.export.folders import ADAPTER_FILES, merged_bytes, stored_type, write_adapter, write_merged
from fettle.export.gguf_architecture import hyperparameters
from fettle.export.gguf_check import check_gguf
from fettle.export.gguf_file import GgufContent, is_our_gguf, write_gguf
from fettle.export.gguf_tensors import plan_tensors
from fettle.export.gguf_vocabulary import vocabulary
from fettle.export.merge import MergedModel, load_merged, load_whole, put_adapter_on, token_rows
from fettle.export.settings import ExportFormat, ExportSettings, WeightType
from fettle.export.source import TunedSource, find_source, tuned_model
from fettle.export.staging import is_our_folder, require_free, require_room, staged, write_manifest
from fettle.models.resolve import WeightsKind
from fettle.progress import Listener, SilentListener, Stage
from fettle.version import fettle_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export wrote."""

    path: Path
    num_bytes: int
    weight_type: WeightType | None
    """None: an adapter, which is as it was trained."""
    merge: Difference | None
    """How the merged weights answer, beside the adapter; None: nothing was merged."""
    written: Difference | None
    """How what was written answers, beside the merged weights in fp32; None: an adapter, which was copied."""
    tuning: Difference | None
    """How the base model answers, beside the merged weights; None: it was not there."""
    notes: tuple[str, ...]


def export(settings: ExportSettings, listener: Listener | None = None) -> Exported:
    """Write what was tuned in the format asked for; what is written has been read back and compared.

    Raises:
        ModelError: There is nothing tuned, it does not fit its base model, or the format cannot hold it.
        ConfigError: The output cannot be written there.
        DiskFullError: There is no room for it.
        IntegrityError: What was written does not answer as the tuned model does; it has been deleted.
    """
    return export_source(find_source(settings.source, settings.model), settings, listener or SilentListener())


def export_source(source: TunedSource, settings: ExportSettings, listener: Listener) -> Exported:
    """The same, of what is known already; see `export`."""
    match settings.format:
        case ExportFormat.ADAPTER:
            return _export_adapter(source, settings)
        case ExportFormat.MERGED:
            return _export_merged(source, settings, listener)
        case ExportFormat.GGUF:
            return _export_gguf(source, settings, listener)


def _export_adapter(source: TunedSource, settings: ExportSettings) -> Exported:
    if not source.is_adapter:
        raise ModelError(
            "all weights of this model were trained, so there is no adapter",
            where=str(source.folder),
            remedy="export it with --format merged or --format gguf",
        )
    require_free(settings.out, is_ours=is_our_folder)
    loaded = load_whole(source)
    put_adapter_on(loaded, source, token_rows(loaded.renderer))
    require_room(settings.out, sum((source.folder / name).stat().st_size for name in ADAPTER_FILES))
    with staged(settings.out, is_ours=is_our_folder) as folder:
        write_adapter(source.folder, loaded.renderer.tokenizer, folder)
        write_manifest(folder, {"kind": "adapter", "base_model": loaded.source.public_id, "version": fettle_version()})
    return _exported(settings, source, weight_type=None, merged=None, written=None)


def _export_merged(source: TunedSource, settings: ExportSettings, listener: Listener) -> Exported:
    require_free(settings.out, is_ours=is_our_folder)
    merged = _merged(source, listener)
    weight_type = settings.weight_type or stored_type(tuned_model(source))
    require_room(settings.out, merged_bytes(merged, weight_type))
    with staged(settings.out, is_ours=is_our_folder) as folder:
        written = write_merged(merged, folder, weight_type)
        facts = {"kind": "merged", "type": weight_type, "base_model": _base_name(source), "version": fettle_version()}
        write_manifest(folder, facts)
    return _exported(settings, source, weight_type=weight_type, merged=merged, written=written)


def _export_gguf(source: TunedSource, settings: ExportSettings, listener: Listener) -> Exported:
    weight_type = settings.weight_type or WeightType.Q8_0
    require_free(settings.out, is_ours=is_our_gguf)
    merged = _merged(source, listener)
    content = _gguf_content(merged, source, weight_type, listener)
    require_room(settings.out, content.num_bytes)
    with staged(settings.out, is_ours=is_our_gguf) as folder:
        num_tensors, file = len(content.tensors), folder / settings.out.name
        write_gguf(
            content,
            merged.model,
            file,
            on_tensor=lambda number: listener.on_stage(
                Stage(name="writing tensors", num_done=number, num_total=num_tensors)
            ),
        )
        listener.on_message("Reading the file back")
        written = check_gguf(file, content, merged)
    return _exported(settings, source, weight_type=weight_type, merged=merged, written=written)


def _merged(source: TunedSource, listener: Listener) -> MergedModel:
    listener.on_message("Loading the model" + (" and merging the adapter" if source.is_adapter else ""))
    return load_merged(source)


def _gguf_content(merged: MergedModel, source: TunedSource, weight_type: WeightType, listener: Listener) -> GgufContent:
    settings = hyperparameters(merged.model)
    base = source.base
    words = vocabulary(
        merged.loaded.renderer, num_rows=merged.model.config.vocab_size, stop_token_ids=merged.loaded.stop_token_ids
    )
    tensors = plan_tensors(merged.model, settings.architecture, weight_type)
    num_rounded = sum(tensor.kind.name == "Q4_1" for tensor in tensors)
    blocks = rounded_with_feedback(
        merged,
        tensors,
        on_tensor=lambda number: listener.on_stage(
            Stage(name="rounding to 4 bits", num_done=number, num_total=num_rounded)
        ),
    )
    return GgufContent(
        name=f"{_base_name(source)} tuned",
        fettle_version=fettle_version(),
        weight_type=weight_type,
        hyperparameters=settings,
        vocabulary=words,
        tensors=tensors,
        blocks=blocks,
        base=base.path if base is not None and base.kind is WeightsKind.GGUF else None,
    )


def _base_name(source: TunedSource) -> str:
    return source.base.public_id if source.base is not None else tuned_model(source).public_id


def _exported(
    settings: ExportSettings,
    source: TunedSource,
    *,
    weight_type: WeightType | None,
    merged: MergedModel | None,
    written: Difference | None,
) -> Exported:
    out = settings.out
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    return Exported(
        path=out,
        num_bytes=sum(file.stat().st_size for file in files),
        weight_type=weight_type,
        merge=merged.merge if merged is not None else None,
        written=written,
        tuning=merged.tuning if merged is not None else None,
        notes=source.notes,
    )
