"""Where what was tuned lies, and the base model it belongs to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fettle.errors import ModelError
from fettle.models.resolve import EMBEDDED_ID, ResolvedModel, resolve_model

_ADAPTER_FILE, _MODEL_FILE = "adapter_config.json", "config.json"
_STUDY_FILE, _REPORT_FILE, _TRAINING = "study.json", "report.json", "training"
_TUNED_FOLDERS = ("adapter", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedSource:
    """What a study, a training run or another tool left."""

    folder: Path
    """A PEFT folder, or that of a whole model."""
    is_adapter: bool
    base: ResolvedModel | None
    """What was tuned; None: not known, and not needed where the whole model is there."""
    notes: tuple[str, ...] = ()
    """What the user should know of it."""


def find_source(path: Path, model: str | None) -> TunedSource:
    """What is to be exported.

    Args:
        path: The folder of a study, of a training run, of an adapter, or of a whole model.
        model: The base model, where the user names it.

    Raises:
        ModelError: There is nothing tuned, its study is not finished, or the base model is not known or another one.
    """
    folder = _tuned_folder(path)
    study = _study_of(folder)
    is_adapter = (folder / _ADAPTER_FILE).is_file()
    if study is not None:
        _require_finished(study)
    if not is_adapter:
        return TunedSource(folder=folder, is_adapter=False, base=resolve_model(model) if model is not None else None)
    if study is not None:
        return TunedSource(folder=folder, is_adapter=True, base=_base_of_study(study, model))
    return _adapter_source(folder, model)


def tuned_model(source: TunedSource) -> ResolvedModel:
    """The weights that stand below an adapter, or those of the whole model that was tuned."""
    if not source.is_adapter:
        return resolve_model(str(source.folder))
    assert source.base is not None, "an adapter is only taken with its base model"
    return source.base


def _tuned_folder(path: Path) -> Path:
    for folder in (
        path,
        *(path / name for name in _TUNED_FOLDERS),
        *(path / _TRAINING / name for name in _TUNED_FOLDERS),
    ):
        if (folder / _ADAPTER_FILE).is_file() or (folder / _MODEL_FILE).is_file():
            return folder
    if not path.exists():
        problem, remedy = "there is no such folder", "name the folder of a study, an adapter or a model"
    elif (path / _STUDY_FILE).is_file():
        problem, remedy = "this study has not trained anything yet", "run the same `fettle study` command again"
    else:
        problem = f"expected what a study left, or a folder with {_ADAPTER_FILE} or {_MODEL_FILE}, and this is neither"
        remedy = "name the folder of a study, of a PEFT adapter, or of a whole model"
    raise ModelError(problem, where=str(path), remedy=remedy)


def _study_of(tuned: Path) -> Path | None:
    """The study that trained it; None: it is no study's."""
    folder = tuned.absolute()
    study = folder.parent.parent
    return study if folder.parent.name == _TRAINING and (study / _STUDY_FILE).is_file() else None


def _require_finished(study: Path) -> None:
    if not (study / _REPORT_FILE).is_file():
        raise ModelError(
            "this study is not finished, so its training may not be either",
            where=str(study),
            remedy="run the same `fettle study` command again: it goes on where it was",
        )


@dataclass(frozen=True, slots=True)
class _RecordedBase:
    """What a study's report says of the model that it tuned."""

    name: str | None
    """As the user named it; None: the embedded one."""
    sha256: str


def _recorded_base(study: Path) -> _RecordedBase:
    """Read the two fields alone, so that the report of an older Fettle is as good.

    Raises:
        ModelError: The report is damaged.
    """
    try:
        provenance = json.loads((study / _REPORT_FILE).read_text(encoding="utf-8"))["provenance"]
        return _RecordedBase(provenance["settings"]["model"], provenance["model_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the report does not say which model was tuned ({type(error).__name__}: {error})",
            where=str(study / _REPORT_FILE),
            remedy="name the adapter's folder outside the study, and its base model with --model",
        ) from error


def _base_of_study(study: Path, model: str | None) -> ResolvedModel:
    """The model that the study tuned, shown to be that one by its hash.

    Raises:
        ModelError: It is not found, or it is another one.
    """
    recorded = _recorded_base(study)
    named = model if model is not None else recorded.name
    try:
        base = resolve_model(named)
    except ModelError as error:
        raise ModelError(
            f"the base model of this study, {named!r}, is not found from here: {error.problem}",
            where=str(study),
            remedy="name it with --model",
        ) from error
    if base.sha256() != recorded.sha256:
        raise ModelError(
            f"the study tuned another model than {base.path}, or its files have changed since",
            where=str(study),
            remedy="name the very model that the study was run with, --model",
        )
    return base


def _adapter_source(folder: Path, model: str | None) -> TunedSource:
    named = _named_base(folder)
    if model is None and named != EMBEDDED_ID and not Path(named).is_dir():
        raise ModelError(
            f"the adapter's base model is {named!r}, and where that lies is not known"
            if named
            else "the adapter does not say which model it belongs to",
            where=str(folder),
            remedy="name the base model with --model",
        )
    base = resolve_model(model if model is not None else named)
    known_as = {base.public_id, base.path.name.lower(), str(base.path)}
    is_other = bool(named) and named not in known_as and Path(named).name.lower() not in known_as
    note = f"The adapter names {named!r} as its base model; what is merged is {base.public_id}, as you said."
    return TunedSource(folder=folder, is_adapter=True, base=base, notes=(note,) if is_other else ())


def _named_base(folder: Path) -> str:
    """What an adapter calls its base model; "" where it does not say."""
    try:
        config = json.loads((folder / _ADAPTER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the adapter's configuration cannot be read ({error})",
            where=str(folder / _ADAPTER_FILE),
            remedy="take an undamaged copy of it",
        ) from error
    return str(config.get("base_model_name_or_path") or "") if isinstance(config, dict) else ""
