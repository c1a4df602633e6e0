"""What a release answers with is not deleted by accident, by the command line or over the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from databases import fresh_store
from fettle.cli import store as store_of_commands
from fettle.cli.main import app
from fettle.releases.challenge import Challenge, ChallengeKind
from fettle.releases.challenging import begin_challenge, end_challenge
from fettle.releases.changing import promote, roll_back
from fettle.releases.needed import NeededByReleaseError, require_unneeded
from fettle.releases.records import ContenderKind, ReleasedContender, ReleasedIndex
from fettle.store.database import Store
from fettle.store.indexes import find_named_index
from fettle.store.models import TunedModel, put_base_model
from indexed import document, indexed, project_of
from kept_models import keep_tuned
from kept_releases import keep_release
from tiny_models import save_tiny_model
from tuned_models import save_tuned_adapter

NAMES = ("first", "second", "third")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with fresh_store(tmp_path / "home") as store:
        monkeypatch.setattr(store_of_commands, "open_store", lambda: store)
        yield store


@pytest.fixture
def models(store: Store, tmp_path: Path) -> dict[str, TunedModel]:
    base = save_tiny_model(tmp_path / "tiny", "llama")
    adapter = save_tuned_adapter(base, tmp_path / "adapter")
    return {name: keep_tuned(store, base, adapter, letters=name) for name in NAMES}


def needed(store: Store, model: str) -> bool:
    try:
        with store.reading() as connection:
            require_unneeded(connection, model=model, remedy="")
    except NeededByReleaseError:
        return True
    return False


def test_models_of_the_release_in_force_and_of_the_one_to_go_back_to_are_needed(
    store: Store, models: dict[str, TunedModel]
) -> None:
    project_id = project_of(store)
    ids = [models[name].id for name in NAMES]
    for number, model in enumerate(ids, start=1):
        keep_release(store, "triage", ReleasedContender(kind=ContenderKind.TUNED, model=model))
        assert not needed(store, model)  # it was not promoted
        promote(store, project_id, "triage", number, who="ann")
    assert [needed(store, model) for model in ids] == [False, True, True]
    roll_back(store, project_id, "triage", to=None, who="ann")
    assert [needed(store, model) for model in ids] == [True, True, False]
    with store.reading() as connection:
        require_unneeded(connection, model=ids[1], project_id="another", remedy="")
        with pytest.raises(NeededByReleaseError, match="triage@2, which is in force") as caught:
            require_unneeded(connection, model=ids[1], remedy=", or wait")
    assert "promote a release without it" in caught.value.describe()


def test_models_of_a_challenger_are_needed_while_it_challenges(store: Store, models: dict[str, TunedModel]) -> None:
    project_id = project_of(store)
    for name in ("first", "second"):
        keep_release(store, "triage", ReleasedContender(kind=ContenderKind.TUNED, model=models[name].id))
    promote(store, project_id, "triage", 1, who="ann")
    challenge = Challenge(name="triage", challenger=2, kind=ChallengeKind.CANARY, share=0.5)
    begin_challenge(store, project_id, challenge, who="ann")
    with store.reading() as connection, pytest.raises(NeededByReleaseError, match="triage@2, which challenges"):
        require_unneeded(connection, model=models["second"].id, remedy="")
    end_challenge(store, project_id, "triage", who="ann")
    assert [needed(store, models[name].id) for name in ("first", "second")] == [True, False]


def test_removing_a_needed_model_takes_force(store: Store, models: dict[str, TunedModel]) -> None:
    model = models["first"].id
    keep_release(store, "triage", ReleasedContender(kind=ContenderKind.TUNED, model=model))
    promote(store, project_of(store), "triage", 1, who="ann")
    refused = CliRunner().invoke(app, ["models", "remove", model])
    assert isinstance(refused.exception, NeededByReleaseError)
    assert needed(store, model)
    assert CliRunner().invoke(app, ["models", "remove", model, "--force"]).exit_code == 0


def test_base_models_and_indexes_are_needed_as_well(store: Store, tmp_path: Path) -> None:
    with store.writing() as connection:
        put_base_model(connection, "tiny", str(save_tiny_model(tmp_path / "tiny", "llama")))
    index = indexed(store, [document("a.md", "Refunds take five days.")], name="handbook").index
    searched = ReleasedIndex(
        index_id=index.id,
        num_passages=2,
        method="hybrid",
        reranker=None,
        max_tokens=None,
        abstention=None,
        asks_for_citations=False,
    )
    keep_release(store, "help", ReleasedContender(kind=ContenderKind.RETRIEVAL, model="tiny", index=searched))
    promote(store, project_of(store), "help", 1, who="ann")
    for command in (["models", "remove", "tiny"], ["indexes", "remove", "handbook"]):
        refused = CliRunner().invoke(app, command)
        assert isinstance(refused.exception, NeededByReleaseError)
        assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    with store.reading() as connection:
        assert find_named_index(connection, project_of(store), "handbook") is None
