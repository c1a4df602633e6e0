"""Vector stores by the official SDK: stores, files, batches and searches, as far as retrieval needs them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai.types import VectorStore, VectorStoreDeleted, VectorStoreSearchResponse
from openai.types.vector_stores import VectorStoreFile, VectorStoreFileBatch, VectorStoreFileDeleted
from pydantic import BaseModel
from search_server import SearchServer

from fettle.retrieval.records import PassageSettings
from fettle.store.attached_files import list_files_of_index, set_attributes
from fettle.store.database import now
from fettle.store.indexes import change_index
from fettle.store.keys import owner_of
from fettle.store.pages import PageRequest
from indexed import WordEmbedder, document, indexed

RETURNS = b"# Returns\n\nParcels come back within thirty days.\n\n# Refunds\n\nRefunds take five working days.\n"
CUT = PassageSettings(max_tokens=40)
CLOSED = {"type": "eq", "key": "open", "value": False}
ROADS = b"# Roads\n\nBridges are closed in winter storms.\n"


def fitting(shown: BaseModel) -> Any:
    """What the SDK has read, seen to have all that its type promises: the SDK itself does not look."""
    type(shown).model_validate(shown.to_dict(), strict=True)  # type: ignore[attr-defined]
    return shown


def sent(client: openai.OpenAI, name: str = "returns.md", content: bytes = RETURNS) -> str:
    return client.files.create(file=(name, content), purpose="assistants").id


def filled(client: openai.OpenAI, **options: Any) -> VectorStore:
    """A store with two files that can be found."""
    store = client.vector_stores.create(name="handbook", **options)
    client.vector_stores.files.upload_and_poll(
        file=("returns.md", RETURNS), vector_store_id=store.id, poll_interval_ms=10
    )
    client.vector_stores.files.create_and_poll(
        sent(client, "roads.md", ROADS),
        vector_store_id=store.id,
        attributes={"country": "no", "year": 2026, "open": False},
        poll_interval_ms=10,
    )
    return client.vector_stores.retrieve(store.id)


def found(client: openai.OpenAI, store_id: str, query: Any, **options: Any) -> list[VectorStoreSearchResponse]:
    return [fitting(one) for one in client.vector_stores.search(store_id, query=query, **options)]


def names_where(client: openai.OpenAI, store_id: str, country: str) -> list[str]:
    where: Any = {"type": "eq", "key": "country", "value": country}
    return [one.filename for one in found(client, store_id, "bridges in winter", filters=where)]


@pytest.fixture(scope="module")
def filtered(search_server: SearchServer) -> Iterator[tuple[openai.OpenAI, str]]:
    """A client, and a store with something in it."""
    with search_server.client(search_server.new_key("filters")) as client:
        yield client, filled(client).id


class TestStores:
    def test_from_creation_to_deletion(self, search_client: openai.OpenAI) -> None:
        made = fitting(
            search_client.vector_stores.create(
                name="handbook", metadata={"team": "support"}, expires_after={"anchor": "last_active_at", "days": 7}
            )
        )
        assert isinstance(made, VectorStore)
        assert made.id.startswith("vs_")
        assert (made.name, made.status, made.metadata, made.usage_bytes) == (
            "handbook",
            "completed",
            {"team": "support"},
            0,
        )
        assert made.file_counts.total == 0
        assert made.expires_at == made.last_active_at + 7 * 86_400
        changed = search_client.vector_stores.update(made.id, name="manual", expires_after=None)
        assert (changed.name, changed.expires_after, changed.expires_at) == ("manual", None, None)
        assert changed.metadata == {"team": "support"}
        assert search_client.vector_stores.retrieve(made.id) == changed
        gone = fitting(search_client.vector_stores.delete(made.id))
        assert isinstance(gone, VectorStoreDeleted)
        assert gone.deleted
        with pytest.raises(openai.NotFoundError, match=made.id):
            search_client.vector_stores.retrieve(made.id)

    def test_pages_neither_repeat_nor_lose_a_store(self, search_client: openai.OpenAI) -> None:
        made = [search_client.vector_stores.create().id for _ in range(5)]
        assert [store.id for store in search_client.vector_stores.list(limit=2)] == made[::-1]
        assert [store.id for store in search_client.vector_stores.list(limit=2, order="asc")] == made
        with pytest.raises(openai.BadRequestError, match="before"):
            search_client.vector_stores.list(before=made[0])

    def test_files_of_the_creation_are_taken_in(self, search_client: openai.OpenAI) -> None:
        made = search_client.vector_stores.create(file_ids=[sent(search_client)], chunking_strategy={"type": "auto"})
        [file] = search_client.vector_stores.files.list(made.id)
        done = search_client.vector_stores.files.poll(file.id, vector_store_id=made.id, poll_interval_ms=10)
        assert done.status == "completed"
        counts = search_client.vector_stores.retrieve(made.id)
        assert (counts.status, counts.file_counts.completed) == ("completed", 1)
        assert counts.usage_bytes == done.usage_bytes > 0

    def test_how_files_are_cut_is_the_stores(self, search_client: openai.OpenAI) -> None:
        sizes: Any = {"type": "static", "static": {"max_chunk_size_tokens": 120, "chunk_overlap_tokens": 20}}
        made = search_client.vector_stores.create(chunking_strategy=sizes)
        file = search_client.vector_stores.files.create(made.id, file_id=sent(search_client), chunking_strategy=sizes)
        assert file.chunking_strategy.to_dict() == sizes
        other: Any = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 0}}
        with pytest.raises(openai.BadRequestError, match="120 tokens with 20 of overlap"):
            search_client.vector_stores.files.create(made.id, file_id=file.id, chunking_strategy=other)

    @pytest.mark.parametrize(
        ("sizes", "told"),
        [
            ({"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}, "longer than the 256"),
            ({"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51}, "more than half"),
            ({"max_chunk_size_tokens": 99, "chunk_overlap_tokens": 0}, "100"),
        ],
    )
    def test_passages_that_cannot_be_are_refused(
        self, search_client: openai.OpenAI, sizes: dict[str, int], told: str
    ) -> None:
        strategy: Any = {"type": "static", "static": sizes}
        with pytest.raises(openai.BadRequestError, match=told) as refused:
            search_client.vector_stores.create(chunking_strategy=strategy)
        assert refused.value.param is not None
        assert refused.value.param.startswith("chunking_strategy.static.")

    def test_a_store_that_was_not_used_expires(self, search_client: openai.OpenAI, search_server: SearchServer) -> None:
        store = filled(search_client, expires_after={"anchor": "last_active_at", "days": 1})
        with search_server.context.store.writing() as connection:
            change_index(connection, store.id, last_active_at=now() - 2 * 86_400)
        assert search_client.vector_stores.retrieve(store.id).status == "expired"
        with pytest.raises(openai.BadRequestError, match="expired"):
            search_client.vector_stores.search(store.id, query="refunds")
        with pytest.raises(openai.BadRequestError, match="expired"):
            search_client.vector_stores.files.create(store.id, file_id=sent(search_client))

    def test_an_index_of_the_command_line_is_a_vector_store(self, search_server: SearchServer) -> None:
        key = search_server.new_key("default")
        owner = owner_of(search_server.context.store, key)
        assert owner is not None
        embedder = search_server.context.embedders.named("")
        made = indexed(
            search_server.context.store,
            [document("guide/refunds.md", "Refunds take five days"), document("guide/roads.md", "Bridges are closed")],
            name="from a folder",
            passages=CUT,
            embedder=embedder,  # type: ignore[arg-type]
        )
        with search_server.client(key) as client:
            store = client.vector_stores.retrieve(made.index.id)
            assert (store.name, store.file_counts.completed) == ("from a folder", 2)
            first, *_ = found(client, store.id, "how long do refunds take")
            assert (first.file_id, first.filename) == ("guide/refunds.md", "guide/refunds.md")
            assert {file.id for file in client.vector_stores.files.list(store.id)} == {
                "guide/refunds.md",
                "guide/roads.md",
            }
            assert (
                client.vector_stores.files.retrieve("guide/refunds.md", vector_store_id=store.id).status == "completed"
            )
            file = client.vector_stores.files.upload_and_poll(
                file=("returns.md", RETURNS), vector_store_id=store.id, poll_interval_ms=10
            )
            assert found(client, store.id, "parcels come back")[0].file_id == file.id


class TestFiles:
    def test_a_file_is_attached_looked_into_and_taken_out(self, search_client: openai.OpenAI) -> None:
        store = filled(search_client)
        roads, returns = search_client.vector_stores.files.list(store.id)
        assert isinstance(fitting(returns), VectorStoreFile)
        assert (roads.status, roads.last_error) == ("completed", None)
        assert roads.attributes == {"country": "no", "year": 2026, "open": False}
        [text] = search_client.vector_stores.files.content(roads.id, vector_store_id=store.id)
        assert (text.type, text.text) == ("text", "Bridges are closed in winter storms.")
        changed = search_client.vector_stores.files.update(
            roads.id, vector_store_id=store.id, attributes={"country": "se"}
        )
        assert changed.attributes == {"country": "se"}
        filters: Any = {"type": "eq", "key": "country", "value": "se"}
        assert [one.file_id for one in found(search_client, store.id, "bridges", filters=filters)] == [roads.id]
        gone = fitting(search_client.vector_stores.files.delete(roads.id, vector_store_id=store.id))
        assert isinstance(gone, VectorStoreFileDeleted)
        assert {one.file_id for one in found(search_client, store.id, "bridges are closed")} <= {returns.id}
        with pytest.raises(openai.NotFoundError, match=roads.id):
            search_client.vector_stores.files.retrieve(roads.id, vector_store_id=store.id)
        assert search_client.files.retrieve(roads.id).filename == "roads.md"

    @pytest.mark.parametrize(
        ("name", "content", "code"),
        [
            ("setup.exe", b"MZ\x00\x01", "unsupported_file"),
            ("notes", b"no ending", "unsupported_file"),
            ("broken.pdf", b"%PDF-1.7 nothing", "invalid_file"),
            ("binary.txt", bytes(range(256)) * 8, "invalid_file"),
            ("blank.md", b"\n \n", "invalid_file"),
        ],
    )
    def test_a_file_that_cannot_be_read_fails_and_says_why(
        self, search_client: openai.OpenAI, name: str, content: bytes, code: str
    ) -> None:
        store = search_client.vector_stores.create()
        file = fitting(
            search_client.vector_stores.files.create_and_poll(
                sent(search_client, name, content), vector_store_id=store.id, poll_interval_ms=10
            )
        )
        assert (file.status, file.last_error.code) == ("failed", code)
        assert len(file.last_error.message) > 10
        assert search_client.vector_stores.retrieve(store.id).file_counts.failed == 1
        assert [one.id for one in search_client.vector_stores.files.list(store.id, filter="failed")] == [file.id]
        assert not list(search_client.vector_stores.files.list(store.id, filter="completed"))

    def test_a_table_is_one_file_whose_rows_are_found(self, search_client: openai.OpenAI) -> None:
        store = search_client.vector_stores.create()
        rows = "question,answer\nWhen do refunds come?,In five days\nWho closes bridges?,The road office\n"
        file = search_client.vector_stores.files.upload_and_poll(
            file=("faq.csv", rows.encode()), vector_store_id=store.id, poll_interval_ms=10
        )
        assert (file.status, file.last_error) == ("completed", None)
        first, *_ = found(search_client, store.id, "who closes bridges?")
        assert (first.file_id, first.filename) == (file.id, "faq.csv")
        assert "road office" in first.content[0].text

    def test_attached_twice_it_is_there_once(self, search_client: openai.OpenAI) -> None:
        store = filled(search_client)
        roads, _ = search_client.vector_stores.files.list(store.id)
        again = search_client.vector_stores.files.create(store.id, file_id=roads.id)
        assert (again.status, again.attributes) == ("completed", roads.attributes)
        assert search_client.vector_stores.retrieve(store.id).file_counts.total == 2

    def test_attached_again_with_other_attributes_it_is_filtered_by_these(self, search_client: openai.OpenAI) -> None:
        store = filled(search_client)
        roads, _ = search_client.vector_stores.files.list(store.id)
        assert names_where(search_client, store.id, "no") == ["roads.md"]
        search_client.vector_stores.files.create(store.id, file_id=roads.id, attributes={"country": "se"})
        assert names_where(search_client, store.id, "no") == []
        assert names_where(search_client, store.id, "se") == ["roads.md"]
        again: Any = [{"file_id": roads.id, "attributes": {"country": "fi"}}]
        search_client.vector_stores.file_batches.create(store.id, files=again)
        assert names_where(search_client, store.id, "se") == []
        assert names_where(search_client, store.id, "fi") == ["roads.md"]

    def test_attributes_that_another_process_has_changed_hold(
        self, search_client: openai.OpenAI, search_server: SearchServer
    ) -> None:
        store = filled(search_client)
        assert names_where(search_client, store.id, "se") == []
        with search_server.context.store.writing() as connection:
            roads = list_files_of_index(connection, store.id, PageRequest(limit=1)).items[0]
            set_attributes(connection, roads, {"country": "se"})
        assert names_where(search_client, store.id, "se") == ["roads.md"]
        assert names_where(search_client, store.id, "no") == []

    def test_a_file_that_is_deleted_is_in_no_vector_store(self, search_client: openai.OpenAI) -> None:
        store, other = filled(search_client), filled(search_client)
        roads, returns = search_client.vector_stores.files.list(store.id)
        search_client.vector_stores.files.create_and_poll(roads.id, vector_store_id=other.id, poll_interval_ms=10)
        search_client.files.delete(roads.id)
        for one in (store, other):
            assert roads.id not in {file.id for file in search_client.vector_stores.files.list(one.id)}
            assert roads.id not in {each.file_id for each in found(search_client, one.id, "bridges are closed")}
        assert [each.file_id for each in found(search_client, store.id, "parcels come back")][:1] == [returns.id]

    def test_unknown_files_are_refused(self, search_client: openai.OpenAI) -> None:
        store = search_client.vector_stores.create()
        with pytest.raises(openai.NotFoundError, match="file-nothing"):
            search_client.vector_stores.files.create(store.id, file_id="file-nothing")
        with pytest.raises(openai.NotFoundError, match="file-nothing"):
            search_client.vector_stores.create(file_ids=["file-nothing"])


class TestBatches:
    def test_files_are_uploaded_and_attached_together(self, search_client: openai.OpenAI) -> None:
        store = search_client.vector_stores.create()
        broken = sent(search_client, "broken.pdf", b"%PDF-1.7 nothing")
        files = [io.BytesIO(RETURNS), io.BytesIO(ROADS)]
        for file, name in zip(files, ("returns.md", "roads.md"), strict=True):
            file.name = name
        batch = fitting(
            search_client.vector_stores.file_batches.upload_and_poll(
                store.id, files=files, file_ids=[broken], poll_interval_ms=10
            )
        )
        assert isinstance(batch, VectorStoreFileBatch)
        assert batch.id.startswith("vsfb_")
        assert (batch.status, batch.file_counts.completed, batch.file_counts.failed) == ("completed", 2, 1)
        listed = search_client.vector_stores.file_batches.list_files(
            batch.id, vector_store_id=store.id, filter="completed", limit=1
        )
        assert len(list(listed)) == 2
        assert search_client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id) == batch

    def test_each_file_may_have_its_own_attributes(self, search_client: openai.OpenAI) -> None:
        store = search_client.vector_stores.create()
        one, other = sent(search_client), sent(search_client, "roads.md", ROADS)
        search_client.vector_stores.file_batches.create_and_poll(
            store.id, files=[{"file_id": one, "attributes": {"n": 1}}, {"file_id": other}], poll_interval_ms=10
        )
        attributes = {file.id: file.attributes for file in search_client.vector_stores.files.list(store.id)}
        assert attributes == {one: {"n": 1}, other: {}}

    def test_what_is_cancelled_is_not_taken_in(self, search_client: openai.OpenAI) -> None:
        store = search_client.vector_stores.create()
        made = search_client.vector_stores.file_batches.create(store.id, file_ids=[sent(search_client)])
        cancelled = search_client.vector_stores.file_batches.cancel(made.id, vector_store_id=store.id)
        assert cancelled.status in ("cancelled", "completed")
        assert cancelled.file_counts.in_progress == 0

    def test_either_ids_or_files(self, search_client: openai.OpenAI) -> None:
        store = search_client.vector_stores.create()
        with pytest.raises(openai.BadRequestError, match="file_ids"):
            search_client.vector_stores.file_batches.create(store.id)


class TestSearch:
    def test_passages_come_with_their_file_and_their_score(self, search_client: openai.OpenAI) -> None:
        store = filled(search_client)
        page = search_client.vector_stores.search(store.id, query="refunds take five working days")
        body = page.to_dict()
        assert (body["object"], body["has_more"], body["next_page"]) == (
            "vector_store.search_results.page",
            False,
            None,
        )
        assert body["search_query"] == ["refunds take five working days"]
        first = page.data[0]
        assert first.filename == "returns.md"
        assert "five working days" in first.content[0].text
        scores = [one.score for one in page.data]
        assert scores == sorted(scores, reverse=True)
        assert 0 <= min(scores) <= max(scores) <= 1

    def test_several_queries_are_searched_for(self, search_client: openai.OpenAI) -> None:
        store = filled(search_client)
        both = found(
            search_client, store.id, ["refunds take five working days", "bridges in winter storms"], max_num_results=2
        )
        assert {one.filename for one in both} == {"returns.md", "roads.md"}

    def test_few_results_and_none_below_a_score(self, search_client: openai.OpenAI) -> None:
        store = filled(search_client)
        query = "refunds take five working days"
        assert len(found(search_client, store.id, query, max_num_results=1)) == 1
        options: Any = {"ranker": "auto", "score_threshold": 1.0}
        assert len(found(search_client, store.id, query, ranking_options=options)) <= 1

    @pytest.mark.parametrize(
        ("filters", "names"),
        [
            ({"type": "eq", "key": "country", "value": "no"}, {"roads.md"}),
            ({"type": "ne", "key": "country", "value": "no"}, {"returns.md"}),
            ({"type": "gte", "key": "year", "value": 2026}, {"roads.md"}),
            ({"type": "gt", "key": "year", "value": 2026}, set()),
            ({"type": "in", "key": "country", "value": ["se", "no"]}, {"roads.md"}),
            (
                {"type": "or", "filters": [CLOSED, {"type": "nin", "key": "year", "value": [2026]}]},
                {"roads.md", "returns.md"},
            ),
            (
                {"type": "and", "filters": [CLOSED, {"type": "lt", "key": "year", "value": 2000}]},
                set(),
            ),
        ],
    )  # fmt: skip
    def test_filters_in_openais_form(self, filtered: tuple[openai.OpenAI, str], filters: Any, names: set[str]) -> None:
        client, store_id = filtered
        assert {one.filename for one in found(client, store_id, "refunds and bridges", filters=filters)} == names

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({}, "query"),
            ({"query": ""}, "query"),
            ({"query": "a", "max_num_results": 51}, "max_num_results"),
            ({"query": "a", "rewrite_query": True}, "rewrite_query"),
            ({"query": "a", "ranking_options": {"score_threshold": 2}}, "ranking_options.score_threshold"),
            ({"query": "a", "ranking_options": {"hybrid_search": {}}}, "ranking_options.hybrid_search"),
            ({"query": "a", "filters": {"type": "like", "key": "a", "value": "b"}}, "filters.type"),
            ({"query": "a", "filters": {"type": "eq", "key": "a", "value": None}}, "filters.value"),
            ({"query": "a", "filters": {"type": "in", "key": "a", "value": "b"}}, "filters.value"),
            ({"query": "a", "filters": {"type": "or", "filters": []}}, "filters"),
            ({"query": "a", "filters": {"type": "eq", "key": "a\0", "value": 1}}, "filters.key"),
            ({"query": "a", "colour": 1}, "colour"),
        ],
    )
    def test_what_cannot_be_searched_is_refused_by_name(
        self, search_server: SearchServer, filtered: tuple[openai.OpenAI, str], body: dict[str, Any], param: str
    ) -> None:
        client, store_id = filtered
        with search_server.raw(client.api_key) as http:
            answer: httpx2.Response = http.post(f"/vector_stores/{store_id}/search", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text

    def test_an_empty_store_has_nothing(self, search_client: openai.OpenAI) -> None:
        assert found(search_client, search_client.vector_stores.create().id, "anything") == []


def test_an_index_of_another_embedder_is_refused_cleanly(search_server: SearchServer) -> None:
    key = search_server.new_key("default")
    other = WordEmbedder(num_dimensions=64, revision="second")
    made = indexed(search_server.context.store, [document("a", "b c")], name="of another", embedder=other, passages=CUT)
    tool: Any = {"type": "file_search", "vector_store_ids": [made.index.id]}
    with search_server.client(key) as client:
        with pytest.raises(openai.BadRequestError, match="embedder") as refused:
            client.vector_stores.search(made.index.id, query="b")
        with pytest.raises(openai.BadRequestError, match="embedder"):
            client.responses.create(model=search_server.model, input="b", tools=[tool])
    assert refused.value.code == "embedder_not_available"
    assert other.revision not in refused.value.message


def test_searches_are_counted(search_server: SearchServer, search_client: openai.OpenAI) -> None:
    found(search_client, filled(search_client).id, "refunds")
    metrics = httpx2.get(f"{search_server.url}/metrics").text
    [line] = [line for line in metrics.splitlines() if line.startswith("fettle_search_seconds_count")]
    assert float(line.split()[1]) >= 1
