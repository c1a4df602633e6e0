"""Section 2 of the contract: models and their names."""

from __future__ import annotations

import httpx2
import openai
import pytest
from api_server import RunningServer


def test_the_list_names_base_models(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    models = {model.id: model for model in idle_client.models.list()}
    assert {idle_server.model, "smollm2-135m-instruct"} <= set(models)
    assert models[idle_server.model].owned_by
    assert models[idle_server.model].created > 0


def test_ids_of_base_models_have_no_slash_space_or_colon(idle_client: openai.OpenAI) -> None:
    assert not [model.id for model in idle_client.models.list() if set(model.id) & set("/ :")]


def test_one_model(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    assert idle_client.models.retrieve(idle_server.model).id == idle_server.model


@pytest.mark.parametrize("name", ["nothing", "org/name", "a b", "ft:tiny-chat:fettle::AbCdEfGh", "ä", "%2F"])
def test_an_unknown_model_is_404(idle_client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        idle_client.models.retrieve(name)
    assert caught.value.code == "model_not_found"
    assert f"The model `{name}` does not exist or you do not have access to it." in caught.value.message


def test_a_base_model_cannot_be_deleted(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        idle_client.models.delete(idle_server.model)
    assert idle_client.models.retrieve(idle_server.model)


@pytest.mark.parametrize("path", ["/models/org/name", "/models/org%2Fname", "/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd"])
def test_a_slash_in_an_unknown_name_is_a_clean_404(raw: httpx2.Client, path: str) -> None:
    answer = raw.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
