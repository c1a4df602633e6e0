"""`fettle index`, `fettle indexes` and `fettle search`: what they print, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from databases import fresh_store
from fettle.cli import store as store_of_commands
from fettle.cli.main import app
from fettle.errors import ConfigError, DataError
from fettle.retrieval.embedders import registry
from fettle.retrieval.indexes.registry import backend_named
from fettle.retrieval.indexing import update_index
from fettle.settings import get_settings
from fettle.store.database import Store
from fettle.store.indexes import list_all_indexes
from fettle.store.keys import create_key
from indexed import SILENT, WordEmbedder, document

Run = Callable[..., str]


class NamedEmbedder(WordEmbedder):
    """One for each name; those that begin with `other` have a revision of their own."""

    name = "all-MiniLM-L6-v2"
    max_tokens = 256

    def __init__(self, name: str) -> None:
        super().__init__(revision="second" if name.startswith("other") else "first")
        self.name = name


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with fresh_store(tmp_path / "home") as store:
        monkeypatch.setattr(store_of_commands, "open_store", lambda: store)
        yield store


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of embedders that were loaded."""
    names: list[str] = []

    def by_name(name: str) -> NamedEmbedder:
        names.append(name)
        return NamedEmbedder(name)

    monkeypatch.setattr(registry, "embedder_by_name", by_name)
    return names


@pytest.fixture
def run(store: Store, asked_for: list[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("index", ...)`: what the command prints; errors are raised."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two documents, a table of two, and one that cannot be read."""
    place = tmp_path / "documents"
    place.mkdir()
    (place / "returns.md").write_text("# Returns\n\n## Refunds\n\nRefunds take fourteen days.\n")
    (place / "hours.txt").write_text("The counter opens at nine.")
    (place / "faq.csv").write_text(
        "question,answer,lang,year\nWhere is it?,At the counter.,en,2025\nWo ist es?,Am Schalter.,de,2026\n"
    )
    (place / "empty.md").write_text("")
    return place


def test_documents_are_indexed_and_found(run: Run, folder: Path) -> None:
    printed = run("index", folder, "--name", "handbook")
    for text in (
        "4 documents, 4 passages",
        "Documents: 4 added",
        "4 texts, with all-MiniLM-L6-v2",
        "empty.md",
        "the file is empty",
    ):
        assert text in printed
    found = run("search", "handbook", "refunds")
    assert found.startswith("1. returns.md  (score ")
    assert "\n   Returns > Refunds\n     Refunds take fourteen days.\n" in found


def test_the_command_to_search_it_names_the_project_where_it_is_needed(run: Run, folder: Path) -> None:
    assert run("index", folder, "--name", "handbook").endswith('Search it: fettle search handbook "a question"\n')
    printed = run("index", folder, "--name", "our handbook", "--project", "team")
    assert printed.endswith("Search it: fettle search 'our handbook' \"a question\" --project team\n")


def test_what_was_done_comes_as_json(run: Run, folder: Path) -> None:
    run("index", folder, "--name", "handbook")
    (folder / "hours.txt").write_text("The counter opens at ten.")
    (folder / "returns.md").unlink()
    printed = run("index", folder, "--name", "handbook", "--json")
    done = json.loads(printed[printed.index("{") :])
    assert done["id"].startswith("vs_")
    assert [finding["code"] for finding in done["findings"]] == ["empty-file"]
    numbers = {name: done[f"num_{name}"] for name in ("documents", "added", "changed", "removed", "unchanged")}
    assert numbers == {"documents": 3, "added": 0, "changed": 1, "removed": 1, "unchanged": 2}


@pytest.mark.parametrize(("conditions", "sources"), [
    (["lang=en"], {"faq.csv:2"}),
    (["year>=2025", "lang!=en"], {"faq.csv:3"}),
    (["year<2026"], {"faq.csv:2"}),
    (["year='2026'"], set()),
    (["lang!=en"], {"faq.csv:3", "hours.txt", "returns.md"}),
])  # fmt: skip
def test_passages_are_filtered_by_what_is_known_of_documents(
    run: Run, folder: Path, conditions: list[str], sources: set[str]
) -> None:
    run("index", folder, "--name", "handbook")
    where = [word for condition in conditions for word in ("--where", condition)]
    found = json.loads(run("search", "handbook", "counter", "-k", 10, "--method", "vector", "--json", *where))
    assert {one["source"] for one in found} == sources
    assert [one["rank"] for one in found] == list(range(1, len(found) + 1))


def test_a_question_without_an_answer_finds_nothing(run: Run, folder: Path) -> None:
    run("index", folder, "--name", "handbook")
    assert run("search", "handbook", "zeppelin", "--method", "full_text") == "Nothing was found.\n"


@pytest.mark.parametrize(("condition", "hint"), [
    ("language=en", "No document has the attribute 'language'. There are: lang, year."),
    ("year='2024'", "'year' is a number in documents, and compared with a text here."),
    ("lang=7", "'lang' is a text in documents, and compared with a number here; a text that reads like a number needs quotation"),
    ("lang=fr", None),
])  # fmt: skip
def test_a_filter_that_no_document_can_fulfil_says_why(
    run: Run, tmp_path: Path, condition: str, hint: str | None
) -> None:
    (tmp_path / "one.md").write_text("---\nlang: en\nyear: 2024\n---\nRefunds take fourteen days.\n")
    run("index", tmp_path / "one.md", "--name", "handbook")
    printed = run("search", "handbook", "refunds", "--where", condition)
    assert printed.startswith("Nothing was found.\n")
    assert hint in printed if hint else printed == "Nothing was found.\n"


def test_a_document_cannot_steer_the_terminal(run: Run, store: Store, folder: Path) -> None:
    run("index", folder, "--name", "handbook")
    with store.reading() as connection:
        (index,) = list_all_indexes(connection)
    sly = [document("\x1b[2Jsly", "Refunds are \x1b]0;owned\x07 \u202egone today.")]
    update_index(store, index, sly, embedder=NamedEmbedder(index.embedder), listener=SILENT, file_id="file-1")
    found = run("search", "handbook", "owned")
    assert "owned" in found
    assert not set(found) & {"\x1b", "\x07", "\u202e"}
    assert "\x1b" not in run("indexes", "show", "handbook", "--documents")


@pytest.mark.parametrize("name", ["", "  "])
def test_an_index_without_a_name_is_refused(run: Run, store: Store, folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"--name: an index needs a name"):
        run("index", folder, "--name", name)
    with store.reading() as connection:
        assert list_all_indexes(connection) == ()


def test_a_place_that_has_nothing_to_read_leaves_no_index(run: Run, store: Store, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "setup.exe").write_bytes(b"MZ")
    for place in ("memory://no-such-place", tmp_path / "others", tmp_path / "nowhere"):
        with pytest.raises((ConfigError, DataError)):
            run("index", place, "--name", "q")
    with store.reading() as connection:
        assert list_all_indexes(connection) == ()


def test_the_embedder_of_the_index_is_used_again(run: Run, folder: Path, asked_for: list[str]) -> None:
    run("index", folder, "--name", "handbook", "--embedder", "other")
    run("index", folder, "--name", "handbook")
    run("search", "handbook", "refunds")
    run("index", folder, "--name", "handbook", "--rebuild")
    assert asked_for == ["other"] * 4


def test_an_endpoint_is_named_by_its_url_and_its_model(run: Run, folder: Path, asked_for: list[str]) -> None:
    run("index", folder, "--name", "handbook", "--embedder-url", "http://127.0.0.1:9/v1", "--embedder", "bge")
    assert asked_for == ["openai:http://127.0.0.1:9/v1#bge"]
    with pytest.raises(ConfigError, match="needs the name of a model"):
        run("index", folder, "--name", "other", "--embedder-url", "http://127.0.0.1:9/v1")


def test_another_embedder_or_another_size_is_refused_until_all_is_made_anew(run: Run, folder: Path) -> None:
    run("index", folder, "--name", "handbook")
    for option, value in (
        ("--embedder", "other"),
        ("--passage-tokens", 100),
        ("--overlap-tokens", 20),
    ):
        with pytest.raises(ConfigError, match="--rebuild"):
            run("index", folder, "--name", "handbook", option, value)
    run("index", folder, "--name", "handbook", "--embedder", "other", "--passage-tokens", 100, "--rebuild")
    assert "of at most 100 tokens" in run("indexes", "show", "handbook")


def test_indexes_are_listed_shown_and_removed(run: Run, store: Store, folder: Path) -> None:
    run("index", folder, "--name", "handbook")
    run("index", folder / "hours.txt", "--name", "hours", "--project", "team")
    lines = run("indexes", "list").splitlines()
    assert [line.split()[0] for line in lines] == ["name", "handbook", "hours"]
    assert lines[2].split()[2:6] == ["team", "1", "1", "all-MiniLM-L6-v2"]
    shown = run("indexes", "show", "handbook", "--documents")
    for text in ("documents:    4 (", "passages:     4, of at most 200 tokens", "revision:     first", "returns.md"):
        assert text in shown
    with store.reading() as connection:
        (index, _) = list_all_indexes(connection)
    assert run("indexes", "remove", index.id) == "Removed: handbook\n"
    assert len(run("indexes", "list").splitlines()) == 2
    assert not backend_named(index.backend).is_prepared(store, index)


def test_an_index_that_is_not_there_is_told_with_a_name_near_it(run: Run, store: Store, folder: Path) -> None:
    run("index", folder, "--name", "handbook")
    create_key(store, "key", "team")
    for arguments in (
        ("search", "hanbook", "refunds"),
        ("indexes", "show", "hanbook"),
        ("indexes", "remove", "hanbook"),
    ):
        with pytest.raises(ConfigError, match="did you mean 'handbook'"):
            run(*arguments)
    with pytest.raises(ConfigError, match="no index of the project 'team'"):
        run("search", "handbook", "refunds", "--project", "team")


def test_a_folder_that_became_empty_leaves_the_index_as_it_is(run: Run, folder: Path) -> None:
    run("index", folder, "--name", "handbook")
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(DataError):
        run("index", folder, "--name", "handbook")
    assert "Refunds take fourteen days." in run("search", "handbook", "refunds")


@pytest.mark.parametrize(("arguments", "problem"), [
    (("search", "handbook", "  "), "the question is empty"),
    (("search", "handbook", "refunds", "--where", "lang"), "expected an attribute"),
    (("search", "handbook", "refunds", "--where", "=en"), "expected an attribute"),
])  # fmt: skip
def test_what_cannot_be_searched_for_is_refused(
    run: Run, folder: Path, arguments: tuple[str, ...], problem: str
) -> None:
    run("index", folder, "--name", "handbook")
    with pytest.raises(ConfigError, match=problem):
        run(*arguments)


def test_what_searches_it_can_be_another_one_from_a_rebuild_on(
    run: Run, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lancedb")
    if store.is_postgresql:
        pytest.skip("PostgreSQL is searched by itself")
    run("index", folder, "--name", "handbook")
    monkeypatch.setenv("FETTLE_INDEX_BACKEND", "lancedb")
    get_settings.cache_clear()
    try:
        run("index", folder, "--name", "handbook")
        assert "searched by:  folder" in run("indexes", "show", "handbook")
        run("index", folder, "--name", "handbook", "--rebuild")
    finally:
        get_settings.cache_clear()
    assert "searched by:  lancedb" in run("indexes", "show", "handbook")
    assert "Refunds take fourteen days." in run("search", "handbook", "refunds")
    with store.reading() as connection:
        (index,) = list_all_indexes(connection)
    assert [generation.name for generation in (store.indexes / index.id).iterdir()] == ["2"]


def test_the_name_of_a_file_cannot_steer_the_terminal(run: Run, folder: Path) -> None:
    (folder / "red\x1b[31m.pdf").write_text("no PDF")
    printed = run("index", str(folder), "--name", "handbook")
    assert "broken-file" in printed
    assert "\x1b" not in printed


def test_an_endpoint_with_another_model_under_its_name_is_not_searched_with(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Salted(NamedEmbedder):
        salt = ""

        def embed(self, texts):
            return super().embed([" ".join(self.salt + word for word in text.split()) for text in texts])

    monkeypatch.setattr(registry, "embedder_by_name", Salted)
    run("index", folder, "--name", "handbook", "--embedder", "bge", "--embedder-url", "http://127.0.0.1:9/v1")
    assert "Refunds take fourteen days." in run("search", "handbook", "refunds")
    monkeypatch.setattr(Salted, "salt", "x")
    with pytest.raises(ConfigError, match="another model under the same name"):
        run("search", "handbook", "refunds")
    assert "Refunds take fourteen days." in run("search", "handbook", "refunds", "--method", "full_text")
