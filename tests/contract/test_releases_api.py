"""Releases by the official SDK over real HTTP: their names are models, and changing what is in force harms no request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from chat_server import BASE, ChatServer, serving_chat

from fettle.contenders.readings import Reading
from fettle.form_records import AnswerForm
from fettle.records import Message
from fettle.releases.changing import promote, roll_back
from fettle.releases.records import ContenderKind, ReleasedContender
from fettle.store.database import Store
from fettle.store.keys import list_keys
from fettle.store.models import folder_of, list_tuned_models
from kept_releases import keep_release

pytestmark = pytest.mark.any_database

QUESTIONS = tuple(f"Where is parcel {number}?" for number in range(4))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ChatServer, Store]]:
    folder = tmp_path_factory.mktemp("releases")
    with serving_chat(folder, num_adapters=2) as server:
        store = Store(folder / "home")  # as another process of the same machine has it
        try:
            for number, model in enumerate(server.tuned):
                contender = ReleasedContender(
                    kind=ContenderKind.TUNED, model=model, instruction=f"You are clerk number {number}."
                )
                keep_release(store, "triage", contender)
            yield server, store
        finally:
            store.close()


def project_of(store: Store) -> str:
    return list_keys(store)[0].project_id


def ask(server: ChatServer, model: str, text: str = QUESTIONS[0], **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return server.client().chat.completions.create(model=model, messages=messages, max_tokens=6, **options)


def test_a_name_is_answered_once_a_release_of_it_is_promoted_and_says_which_it_was(
    served: tuple[ChatServer, Store],
) -> None:
    server, store = served
    with pytest.raises(openai.NotFoundError, match="none of them is in force"):
        ask(server, "triage")
    assert ask(server, "triage@2").release == {"name": "triage", "number": 2, "contender": "tuned"}
    with pytest.raises(openai.NotFoundError, match=r"`triage@3` does not exist"):
        ask(server, "triage@3")
    promote(store, project_of(store), "triage", 1, who="tester")
    raw = server.client().chat.completions.with_raw_response.create(
        model="triage", messages=[{"role": "user", "content": "Hello"}], max_tokens=4
    )
    assert raw.headers["x-fettle-release"] == "triage@1"
    answer = raw.parse()
    assert answer.model == "triage"
    assert answer.to_dict()["release"] == {"name": "triage", "number": 1, "contender": "tuned"}
    chunks = list(ask(server, "triage", stream=True))
    assert {chunk.release["number"] for chunk in chunks} == {1}
    responses = server.client().responses.with_raw_response.create(model="triage", input="Hello", max_output_tokens=4)
    assert responses.headers["x-fettle-release"] == "triage@1"
    plain = server.client().chat.completions.with_raw_response.create(
        model=server.tuned[0], messages=[{"role": "user", "content": "Hello"}], max_tokens=4
    )
    assert "x-fettle-release" not in plain.headers
    assert "release" not in plain.parse().to_dict()


def test_names_in_force_are_among_the_models(served: tuple[ChatServer, Store]) -> None:
    server, store = served
    if server.client().models.list().data[-1].id != "triage":
        promote(store, project_of(store), "triage", 1, who="tester")
    assert [model.id for model in server.client().models.list().data] == [BASE, *server.tuned, "triage"]
    assert server.client().models.retrieve("triage").owned_by.startswith("org-")


def test_a_release_answers_as_its_model_does_behind_its_instruction(served: tuple[ChatServer, Store]) -> None:
    server, _ = served
    messages: Any = [
        {"role": "system", "content": "You are clerk number 1."},
        {"role": "user", "content": QUESTIONS[0]},
    ]
    direct = server.client().chat.completions.create(
        model=server.tuned[1], messages=messages, max_tokens=6, temperature=0
    )
    released = ask(server, "triage@2")
    assert released.choices[0].message.content == direct.choices[0].message.content
    assert released.usage.prompt_tokens == direct.usage.prompt_tokens
    again = server.client().chat.completions.create(model="triage@2", messages=messages, max_tokens=6)
    assert again.usage.prompt_tokens == direct.usage.prompt_tokens  # who sends the instruction does not send it twice


def test_answers_of_a_labels_release_are_labels_unless_the_request_wants_another_form(
    served: tuple[ChatServer, Store],
) -> None:
    server, store = served
    shots = (Message(role="user", content="I was billed twice"), Message(role="assistant", content="billing"))
    contender = ReleasedContender(
        kind=ContenderKind.FEW_SHOT,
        model=BASE,
        instruction="Which queue?",
        shots=shots,
        form=AnswerForm(labels=("billing", "lost parcel", 'the "other" one')),
    )
    keep_release(store, "queues", contender)
    found = server.client().chat.completions.create(
        model="queues@1", messages=[{"role": "user", "content": "Where is it?"}]
    )
    assert found.choices[0].message.content in contender.form.labels  # type: ignore[union-attr]
    assert found.to_dict()["release"] == {"name": "queues", "number": 1, "contender": "few_shot"}
    schema: Any = {"name": "a", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
    forced = server.client().chat.completions.create(
        model="queues@1",
        messages=[{"role": "user", "content": "Where is it?"}],
        response_format={"type": "json_schema", "json_schema": schema},
    )
    assert forced.choices[0].message.content == "{}"


def test_labels_are_read_as_in_the_study_however_they_are_asked_for(served: tuple[ChatServer, Store]) -> None:
    server, store = served
    labels = ("billing", "lost parcel", 'the "other" one')
    asked: Any = {"messages": [{"role": "user", "content": "Where is it?"}]}
    for label in labels:
        offsets = {other: 0.0 if other == label else 1e3 for other in labels}
        form = AnswerForm(labels=labels, reading=Reading.CALIBRATED.value, label_offsets=offsets)
        number = keep_release(store, "read", ReleasedContender(kind=ContenderKind.PROMPT, model=BASE, form=form)).number
        client, name = server.client(), f"read@{number}"
        whole = client.chat.completions.create(model=name, **asked)
        assert whole.choices[0].message.content == label
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None
        assert whole.usage.completion_tokens > 0
        streamed = client.chat.completions.create(model=name, stream=True, **asked)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == label
        told = client.chat.completions.create(model=name, logprobs=True, n=2, max_completion_tokens=60, **asked)
        for choice in told.choices:
            assert choice.message.content == label
            assert choice.logprobs is not None
            assert "".join(token.token for token in choice.logprobs.content or []) == label
        assert client.responses.create(model=name, input="Where is it?").output_text == label


def test_promoting_and_rolling_back_drops_and_mixes_no_request(served: tuple[ChatServer, Store]) -> None:
    server, store = served
    project_id = project_of(store)
    wanted = {
        (number, text): ask(server, f"triage@{number}", text).choices[0].message.content
        for number in (1, 2)
        for text in QUESTIONS
    }
    assert all(wanted[1, text] != wanted[2, text] for text in QUESTIONS), "the two must be told apart"
    is_over = threading.Event()
    num_changes = 0

    def change() -> None:
        nonlocal num_changes
        while not is_over.is_set():
            in_force = ask(server, "triage").release["number"]
            if in_force == 1:
                promote(store, project_id, "triage", 2, who="tester")
            else:
                roll_back(store, project_id, "triage", to=1, who="tester")
            num_changes += 1

    def many(worker: int) -> list[tuple[int, str, str]]:
        client = httpx2.Client(
            base_url=f"{server.url}/v1", headers={"Authorization": f"Bearer {server.key}"}, timeout=120
        )
        found = []
        for place in range(4):
            text = QUESTIONS[(worker + place) % len(QUESTIONS)]
            body = {"model": "triage", "messages": [{"role": "user", "content": text}], "max_tokens": 6}
            answer = client.post("/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            said = answer.json()
            assert answer.headers["x-fettle-release"] == f"triage@{said['release']['number']}"
            found.append((said["release"]["number"], text, said["choices"][0]["message"]["content"]))
        return found

    promote_if_not(store, project_id)
    changing = threading.Thread(target=change)
    changing.start()
    try:
        with ThreadPoolExecutor(32) as pool:
            answers = [one for some in pool.map(many, range(32)) for one in some]
    finally:
        is_over.set()
        changing.join()
    assert len(answers) == 128
    assert num_changes > 1
    assert {number for number, _, _ in answers} == {1, 2}
    assert [said for _, _, said in answers] == [wanted[number, text] for number, text, _ in answers]


def test_a_model_that_a_release_answers_with_is_not_deleted(served: tuple[ChatServer, Store]) -> None:
    server, store = served
    promote_if_not(store, project_of(store))
    number = ask(server, "triage").release["number"]
    with pytest.raises(openai.BadRequestError, match=f"triage@{number}, which is in force") as caught:
        server.client().models.delete(server.tuned[number - 1])
    assert caught.value.code == "model_in_use"
    assert ask(server, "triage").release["number"] == number


def promote_if_not(store: Store, project_id: str) -> None:
    try:
        promote(store, project_id, "triage", 1, who="tester")
    except Exception as error:
        assert "in force already" in str(error)  # noqa: PT017 (either is right)


def test_changed_weights_are_refused_by_name(tmp_path: Path) -> None:
    with serving_chat(tmp_path, num_adapters=1) as server:
        store = Store(tmp_path / "home")
        contender = ReleasedContender(kind=ContenderKind.TUNED, model=server.tuned[0])
        keep_release(store, "triage", contender)
        promote(store, project_of(store), "triage", None, who="tester")
        with store.reading() as connection:
            [model] = list_tuned_models(connection)
        config = folder_of(store, model) / "adapter_config.json"
        before = ask(server, "triage").choices[0].message.content
        signed = config.read_text()
        config.write_text(signed + " ")
        with pytest.raises(openai.InternalServerError, match="`triage` is not what was signed"):
            ask(server, "triage")
        config.write_text(signed)
        assert ask(server, "triage").choices[0].message.content == before
        store.close()
