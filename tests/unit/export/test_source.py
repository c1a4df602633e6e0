from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fettle.errors import ConfigError, ModelError
from fettle.export.settings import ExportFormat, ExportSettings, WeightType
from fettle.export.source import find_source, tuned_model
from fettle.models.resolve import resolve_model
from tiny_models import save_tiny_model
from tuned_models import save_tuned_adapter


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder as a study leaves it, as far as an export looks at it."""
    model, folder = save_tiny_model(tmp_path / "model", "qwen2"), tmp_path / "study"
    save_tuned_adapter(model, folder / "training" / "adapter")
    (folder / "study.json").write_text("{}")
    provenance = {"settings": {"model": str(model)}, "model_sha256": resolve_model(str(model)).sha256()}
    (folder / "report.json").write_text(json.dumps({"provenance": provenance}))
    return folder


@pytest.mark.parametrize("inner", ["", "training", "training/adapter"])
def test_a_study_knows_its_base_model(inner: str, study: Path) -> None:
    source = find_source(study / inner, None)
    assert (source.folder, source.is_adapter) == (study / "training" / "adapter", True)
    assert tuned_model(source).path == study.parent / "model"


def test_a_study_of_another_model_is_refused(study: Path) -> None:
    other = save_tiny_model(study.parent / "other", "qwen2", seed=1)
    with pytest.raises(ModelError, match="the study tuned another model"):
        find_source(study, str(other))
    moved = shutil.move(study.parent / "model", study.parent / "moved")
    with pytest.raises(ModelError, match="is not found from here") as raised:
        find_source(study, None)
    assert raised.value.remedy == "name it with --model"
    assert tuned_model(find_source(study, str(moved))).path == moved


def test_what_is_not_finished_is_refused(study: Path) -> None:
    (study / "report.json").unlink()
    with pytest.raises(ModelError, match="not finished"):
        find_source(study, None)
    shutil.rmtree(study / "training")
    with pytest.raises(ModelError, match="has not trained anything yet"):
        find_source(study, None)
    with pytest.raises(ModelError, match="no such folder"):
        find_source(study / "missing", None)
    (study / "study.json").unlink()
    with pytest.raises(ModelError, match="neither"):
        find_source(study, None)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"provenance": {"settings": 1}}'])
def test_a_damaged_report_says_what_to_do(text: str, study: Path) -> None:
    (study / "report.json").write_text(text)
    with pytest.raises(ModelError, match="does not say which model was tuned") as raised:
        find_source(study, None)
    assert "--model" in (raised.value.remedy or "")


def test_another_name_than_the_adapters_is_told(study: Path) -> None:
    adapter = shutil.copytree(study / "training" / "adapter", study.parent / "adapter")
    renamed = shutil.copytree(study.parent / "model", study.parent / "renamed")
    assert find_source(adapter, str(study.parent / "model")).notes == ()
    assert "'model'" in find_source(adapter, str(renamed)).notes[0]


def test_types_and_names_that_a_format_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written as q8_0"):
        ExportSettings(source=tmp_path, format=ExportFormat.MERGED, out=tmp_path, weight_type=WeightType.Q8_0)
    with pytest.raises(ConfigError, match="cannot be written as f32"):
        ExportSettings(source=tmp_path, format=ExportFormat.ADAPTER, out=tmp_path, weight_type=WeightType.F32)
    with pytest.raises(ConfigError, match=r"ends in \.gguf"):
        ExportSettings(source=tmp_path, format=ExportFormat.GGUF, out=tmp_path / "model")
