"""The weights of a tuned model, downloaded by whom it belongs to."""

from __future__ import annotations

import io
import secrets
import tarfile
from pathlib import Path

import httpx2
import pytest
from api_server import RunningServer

from fettle.store.database import Store
from fettle.store.models import TunedModel, folder_of
from kept_models import keep_tuned
from tuned_models import adapter_logits, save_tuned_adapter

IDS = [5, 9, 30, 41, 12, 77, 101, 3]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    return save_tuned_adapter(tiny_model_folder, tmp_path_factory.mktemp("tuned") / "adapter")


@pytest.fixture
def owned(idle_server: RunningServer, tiny_model_folder: Path, adapter: Path) -> tuple[TunedModel, httpx2.Client]:
    """A tuned model, and a client of its project."""
    project, letters = f"project-{secrets.token_hex(4)}", secrets.token_hex(4)
    store = Store(idle_server.home, idle_server.database_url)
    model = keep_tuned(store, tiny_model_folder, adapter, project=project, letters=letters)
    store.close()
    return model, idle_server.raw(idle_server.new_key(project))


def test_they_are_a_folder_that_peft_and_transformers_read(
    owned: tuple[TunedModel, httpx2.Client], tiny_model_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoTokenizer

    model, http = owned
    answer = http.get(f"models/{model.id}/weights?format=adapter")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-tar")
    assert int(answer.headers["content-length"]) == len(answer.content)
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    assert folder.name == model.id.replace(":", "-")
    assert torch.equal(adapter_logits(tiny_model_folder, folder, IDS), adapter_logits(tiny_model_folder, adapter, IDS))
    tokenizers = [AutoTokenizer.from_pretrained(str(place)) for place in (folder, tiny_model_folder)]
    assert tokenizers[0].chat_template == tokenizers[1].chat_template
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()


def test_a_model_deleted_meanwhile_is_sent_to_its_end(owned: tuple[TunedModel, httpx2.Client]) -> None:
    model, http = owned
    whole = http.get(f"models/{model.id}/weights").content
    with http.stream("GET", f"models/{model.id}/weights") as answer:
        assert http.delete(f"models/{model.id}").json()["deleted"] is True
        assert answer.read() == whole
    assert http.get(f"models/{model.id}/weights").status_code == 404


def test_what_has_no_weights_of_its_own_is_refused(
    owned: tuple[TunedModel, httpx2.Client], raw: httpx2.Client, idle_server: RunningServer
) -> None:
    model, http = owned
    assert http.get(f"models/{model.id}/weights?format=gguf").json()["error"]["param"] == "format"
    assert "base model" in http.get(f"models/{idle_server.model}/weights").json()["error"]["message"]
    for answer in (http.get("models/of/nobody/weights"), raw.get(f"models/{model.id}/weights")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_weights_that_are_gone_are_said_to_be_without_a_path(
    owned: tuple[TunedModel, httpx2.Client], idle_server: RunningServer
) -> None:
    model, http = owned
    store = Store(idle_server.home, idle_server.database_url)
    (folder_of(store, model) / "adapter_model.safetensors").unlink()
    store.close()
    answer = http.get(f"models/{model.id}/weights")
    assert answer.status_code == 404
    assert str(idle_server.home) not in answer.text
