"""`fettle models`: what it shows, changes and refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from databases import fresh_store
from fettle.cli import store as store_of_commands
from fettle.cli.main import app
from fettle.errors import ConfigError, ModelError
from fettle.jobs.control import cancel_job, create_job
from fettle.jobs.fine_tuning import FineTuningRequest, Hyperparameters
from fettle.models.resolve import EMBEDDED_ID
from fettle.store.database import Store
from fettle.store.indexes import list_all_indexes, remove_index
from fettle.store.keys import ensure_project
from fettle.store.model_indexes import AttachedIndex, attach_index, index_of_model
from fettle.store.models import (
    NoSuchModelError,
    TunedModel,
    find_model,
    folder_of,
    list_aliases,
    list_base_models,
    put_alias,
    put_base_model,
)
from indexed import document, indexed, project_of
from kept_models import keep_tuned
from tiny_models import save_tiny_model
from tuned_models import save_tuned_adapter

Run = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with fresh_store(tmp_path / "home") as store:
        monkeypatch.setattr(store_of_commands, "open_store", lambda: store)
        yield store


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("list")`: what `fettle models list` prints; errors are raised."""
    monkeypatch.setenv("COLUMNS", "300")

    def command(*arguments: str | Path) -> str:
        done = CliRunner().invoke(app, ["models", *map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return command


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", "llama")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tuned_adapter(base, tmp_path_factory.mktemp("tuned") / "adapter")


def test_a_list_shows_all_models_with_project_size_job_and_aliases(
    run: Run, store: Store, base: Path, adapter: Path
) -> None:
    model = keep_tuned(store, base, adapter, project="acme")
    run("alias", "gpt-4o-mini-2024-07-18", "tiny")
    lines = {line.split()[0]: line for line in run("list").splitlines()}
    for word in ("base", "gpt-4o-mini-2024-07-18", "kB"):
        assert word in lines["tiny"]
    for word in ("tuned", "acme", "ftjob-abcd1234"):
        assert word in lines[model.id]


def test_a_base_model_whose_files_are_gone_is_listed_as_such(run: Run, store: Store, tmp_path: Path) -> None:
    with store.writing() as connection:
        put_base_model(connection, "lost", str(tmp_path / "lost"))
    assert "not there" in run("list")


def test_one_model_is_shown_by_its_name_or_an_alias(run: Run, store: Store, base: Path, adapter: Path) -> None:
    model = keep_tuned(store, base, adapter, project="acme")
    run("alias", "ours", model.id)
    for name in (model.id, "ours"):
        shown = run("show", name)
        for word in (model.id, "acme", "ftjob-abcd1234", "ours", str(folder_of(store, model))):
            assert word in shown
    assert f"tuned from it:  {model.id}" in run("show", "tiny")
    with pytest.raises(NoSuchModelError, match="Models here are tiny"):
        run("show", "nothing")


def test_a_model_is_added_once_and_keeps_its_time(run: Run, store: Store, base: Path) -> None:
    run("add", base)
    with store.reading() as connection:
        before = list_base_models(connection)
    run("add", base)
    with store.reading() as connection:
        assert list_base_models(connection) == before
    assert [(model.id, model.source) for model in before] == [("tiny", str(base))]


def test_the_embedded_model_is_kept_by_its_name_alone(run: Run, store: Store) -> None:
    run("add", "smollm2-135m-instruct")
    with store.reading() as connection:
        assert [model.source for model in list_base_models(connection)] == ["smollm2-135m-instruct"]


def test_another_model_does_not_take_the_place_of_one_that_was_tuned(
    run: Run, store: Store, base: Path, adapter: Path, tmp_path: Path
) -> None:
    other = save_tiny_model(tmp_path / "tiny", "llama", seed=1)
    run("add", base)
    run("add", other)  # nothing was tuned yet
    model = keep_tuned(store, base, adapter)
    with pytest.raises(ConfigError, match=model.id):
        run("add", other)
    moved = save_tiny_model(tmp_path / "moved" / "tiny", "llama")
    run("add", moved)  # the same files in another place
    with store.reading() as connection:
        assert [found.source for found in list_base_models(connection)] == [str(moved)]


def test_a_base_model_that_something_needs_is_not_removed(run: Run, store: Store, base: Path, adapter: Path) -> None:
    model = keep_tuned(store, base, adapter)
    with pytest.raises(ConfigError, match=model.id):
        run("remove", "tiny")
    run("remove", model.id)
    assert not folder_of(store, model).exists()
    request = FineTuningRequest(base="tiny", continues=None, seed=1, suffix=None, hyperparameters=Hyperparameters())
    with store.writing() as connection:
        job = create_job(
            connection, project_id=ensure_project(connection, "default").id, model="tiny", request=request,
            training_file="file-1", validation_file=None, metadata=None,
        )  # fmt: skip
    with pytest.raises(ConfigError, match=job.id):
        run("remove", "tiny")
    with store.writing() as connection:
        cancel_job(connection, job)
    run("remove", "tiny")
    with store.reading() as connection:
        assert list_base_models(connection) == ()
    assert (base / "config.json").exists()


def test_an_alias_makes_an_old_name_work_until_it_is_removed(run: Run, store: Store, base: Path) -> None:
    run("add", base)
    assert "gpt-4o-mini means tiny" in run("alias", "gpt-4o-mini", "tiny")
    run("alias", "gpt-4o", "gpt-4o-mini")
    with store.reading() as connection:
        assert find_model(connection, "proj_any", "gpt-4o").id == "tiny"
        assert list_aliases(connection) == {"gpt-4o": "tiny", "gpt-4o-mini": "tiny"}
    run("unalias", "gpt-4o")
    with store.reading() as connection, pytest.raises(NoSuchModelError):
        find_model(connection, "proj_any", "gpt-4o")
    with pytest.raises(ConfigError, match="there is no alias"):
        run("unalias", "gpt-4o")


@pytest.mark.parametrize("name", ["", "with space", "a\tb", "a\0b", "x" * 256, "tiny", "ft:tiny:a::b"])
def test_names_that_are_none_or_taken_are_refused(run: Run, store: Store, base: Path, name: str) -> None:
    run("add", base)
    with pytest.raises(ConfigError):
        run("alias", name, "tiny")


def test_an_alias_of_nothing_is_refused_and_a_model_is_not_hidden_by_one(run: Run, store: Store, base: Path) -> None:
    with pytest.raises(NoSuchModelError):
        run("alias", "gpt-4o", "tiny")
    with store.writing() as connection:
        put_alias(connection, "tiny", "another")
    with pytest.raises(ConfigError, match="is an alias"):
        run("add", base)


def test_an_export_refuses_base_models_and_those_whose_base_has_changed(
    run: Run, store: Store, adapter: Path, tmp_path: Path
) -> None:
    base = save_tiny_model(tmp_path / "tiny", "llama")
    model: TunedModel = keep_tuned(store, base, adapter)
    with pytest.raises(ConfigError, match="is a base model"):
        run("export", "tiny", "--out", tmp_path / "out")
    save_tiny_model(base, "llama", seed=1)
    with pytest.raises(ModelError, match="have changed since"):
        run("export", model.id, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_comes_with_fettle_is_said_to_come_again(store: Store, run: Run) -> None:
    with store.writing() as connection:
        put_base_model(connection, EMBEDDED_ID, EMBEDDED_ID)
    assert "starts again" in run("remove", EMBEDDED_ID)
    with store.reading() as connection:
        assert not list_base_models(connection)


class TestIndexesOfModels:
    @pytest.fixture
    def served(self, store: Store, base: Path) -> str:
        with store.writing() as connection:
            put_base_model(connection, "tiny", str(base))
        indexed(store, [document("a.md", "Refunds take five days.")], name="handbook")
        return "tiny"

    def test_an_index_is_attached_shown_and_detached(self, store: Store, run: Run, served: str) -> None:
        assert "from handbook" in run("attach", served, "--index", "handbook", "-k", "3", "--method", "vector")
        project_id = project_of(store)
        with store.reading() as connection:
            found = index_of_model(connection, served, project_id)
        assert found is not None
        assert (found.num_passages, found.method) == (3, "vector")
        assert f"default: {found.index_id}" in run("show", served)
        run("attach", served, "--index", found.index_id)
        assert "without an index" in run("detach", served)
        with store.reading() as connection:
            assert index_of_model(connection, served, project_id) is None
        with pytest.raises(ConfigError, match="without an index"):
            run("detach", served)

    def test_attaching_again_changes_what_is_said_alone(self, store: Store, run: Run, served: str) -> None:
        project_id = project_of(store)
        with store.writing() as connection:
            [index] = list_all_indexes(connection)
            studied = AttachedIndex(
                model=served,
                project_id=project_id,
                index_id=index.id,
                num_passages=2,
                method="vector",
                reranker="late-interaction",
                abstention="Not in the handbook.",
                asks_for_citations=False,
            )
            attach_index(connection, studied)

        def attached(*options: str) -> AttachedIndex | None:
            said = run("attach", served, "--index", "handbook", *options)
            with store.reading() as connection:
                found = index_of_model(connection, served, project_id)
            assert found is not None
            assert f"reranker {found.reranker or 'none'}" in said
            return found

        assert attached() == studied
        assert attached("-k", "3") == replace(studied, num_passages=3)
        assert attached("--method", "hybrid", "-k", "2") == replace(studied, method="hybrid")
        other = replace(studied, method="hybrid", abstention="Ask us.", asks_for_citations=True, reranker=None)
        assert attached("--abstention", "Ask us.", "--citations", "--reranker", "none") == other
        assert attached("--abstention", "") == replace(other, abstention=None)
        asking = replace(other, abstention=None, system_begin="Ticket:", system_end="Thanks.")
        with store.writing() as connection:
            attach_index(connection, asking)
        assert attached("--system") == attached() == asking
        assert attached("--no-system") == replace(other, abstention=None)
        assert attached("--system") == replace(other, abstention=None, system_begin="")

    def test_an_index_that_is_deleted_is_attached_no_more(self, store: Store, run: Run, served: str) -> None:
        run("attach", served, "--index", "handbook")
        with store.writing() as connection:
            [index] = list_all_indexes(connection)
            remove_index(connection, index.id)
            assert index_of_model(connection, served, index.project_id) is None

    def test_another_projects_index_is_none(self, run: Run, served: str) -> None:
        with pytest.raises(ConfigError, match="handbook"):
            run("attach", served, "--index", "handbook", "--project", "other")
