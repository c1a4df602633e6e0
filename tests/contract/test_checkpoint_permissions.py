"""Section 8 of the contract: checkpoints are shared with no other project, and who asks for it is told why."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import openai
import pytest

CHECKPOINT = "ft:tiny-chat:fettle::AAAAAAAA:ckpt-step-12"
PATH = f"/fine_tuning/checkpoints/{CHECKPOINT}/permissions"
ASKED: list[Callable[[openai.OpenAI], object]] = [
    lambda client: client.fine_tuning.checkpoints.permissions.list(CHECKPOINT).data,
    lambda client: client.fine_tuning.checkpoints.permissions.create(CHECKPOINT, project_ids=["proj_other"]).data,
    lambda client: (
        client.fine_tuning.checkpoints.permissions.delete("cp_x", fine_tuned_model_checkpoint=CHECKPOINT).deleted
    ),
]


@pytest.mark.parametrize("ask", ASKED, ids=["list", "create", "delete"])
def test_sharing_is_refused_with_a_reason(idle_client: openai.OpenAI, ask: Callable[[openai.OpenAI], object]) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="this server has no such right") as caught:
        ask(idle_client)
    assert (caught.value.code, caught.value.type) == ("insufficient_permissions", "invalid_request_error")


@pytest.mark.parametrize(("method", "path"), [("PUT", PATH), ("DELETE", PATH), ("GET", f"{PATH}/cp_x")])
def test_other_methods_are_405(raw: httpx2.Client, method: str, path: str) -> None:
    assert raw.request(method, path).status_code == 405


def test_without_a_key_it_is_401(raw: httpx2.Client) -> None:
    assert raw.get(PATH, headers={"authorization": ""}).status_code == 401


def test_our_own_description_says_so(raw: httpx2.Client) -> None:
    paths = raw.get(str(raw.base_url.copy_with(path="/openapi.json"))).json()["paths"]
    path = "/v1/fine_tuning/checkpoints/{checkpoint}/permissions"
    for operation in (paths[path]["get"], paths[path]["post"], paths[f"{path}/{{permission_id}}"]["delete"]):
        assert "403" in operation["responses"]
        assert "200" not in operation["responses"]
