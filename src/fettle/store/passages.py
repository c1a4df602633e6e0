"""The passages of indexes: their texts, and the vectors of these."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, bindparam, func, insert, select, update

from fettle.store.database import Store
from fettle.store.indexes import DocumentStatus, hold_index
from fettle.store.tables import index_documents, passages

_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPassage:
    """A piece of a document."""

    position: int
    """In its document, from 0."""
    page: int | None
    title_path: Sequence[str]
    text: str
    num_tokens: int
    text_hash: str
    """Of what is embedded, headings included: 32 hexadecimal digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPassage(NewPassage):
    """A piece of a document, and what is known of the document."""

    number: int
    """Its key in the index. No other passage ever gets it."""
    vector: bytes | None
    """Little-endian float32; None: it was not embedded yet."""
    document_number: int
    document_id: str
    source: str
    title: str
    attributes: Mapping[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class Unembedded:
    """A text that has no vector yet."""

    text_hash: str
    num_tokens: int
    number: int
    """Of one passage with this text."""


def add_passages(connection: Connection, index_id: str, document_number: int, cut: Sequence[NewPassage]) -> None:
    """Have the passages of a document. Where another passage of the index has the same text, its vector is theirs, too."""
    for start in range(0, len(cut), _ROWS_AT_ONCE):
        some = cut[start : start + _ROWS_AT_ONCE]
        known = _known_vectors(connection, index_id, {passage.text_hash for passage in some})
        rows = [
            {name: getattr(passage, name) for name in NewPassage.__dataclass_fields__}
            | {
                "index_id": index_id,
                "document_number": document_number,
                "title_path": list(passage.title_path),
                "vector": known.get(passage.text_hash),
            }
            for passage in some
        ]
        connection.execute(insert(passages), rows)


def count_passages(connection: Connection, index_id: str) -> int:
    """How many passages an index has, those of documents in progress included."""
    counted = select(func.count()).select_from(passages).where(passages.c.index_id == index_id)
    return int(connection.execute(counted).scalar_one())


def list_unembedded(connection: Connection, index_id: str) -> list[Unembedded]:
    """The texts without a vector, each once, the longest first."""
    wanted = (
        select(passages.c.text_hash, func.max(passages.c.num_tokens), func.min(passages.c.number))
        .where(passages.c.index_id == index_id, passages.c.vector.is_(None))
        .group_by(passages.c.text_hash)
        .order_by(func.max(passages.c.num_tokens).desc(), func.min(passages.c.number))
    )
    return [Unembedded(*row) for row in connection.execute(wanted)]


def first_embedded(connection: Connection, index_id: str) -> StoredPassage | None:
    """The passage with the lowest number that has a vector; None: there is none."""
    wanted = _WITH_DOCUMENT.where(passages.c.index_id == index_id, passages.c.vector.is_not(None))
    row = connection.execute(wanted.order_by(passages.c.number).limit(1)).mappings().first()
    return None if row is None else _passage(row)


def forget_vectors(connection: Connection, index_id: str) -> None:
    """Have all passages of an index embedded again."""
    connection.execute(update(passages).where(passages.c.index_id == index_id).values(vector=None))


def set_vectors(connection: Connection, index_id: str, vectors: Mapping[str, bytes]) -> None:
    """Keep the vectors of texts, by the hashes of these, with all passages that have none yet."""
    changed = update(passages).where(
        passages.c.index_id == index_id, passages.c.text_hash == bindparam("of_hash"), passages.c.vector.is_(None)
    )
    rows = [{"of_hash": text_hash, "vector": vector} for text_hash, vector in vectors.items()]
    connection.execute(changed.values(vector=bindparam("vector")), rows)


def find_passages(connection: Connection, index_id: str, numbers: Collection[int]) -> dict[int, StoredPassage]:
    """The passages of these numbers, in any state; one that was deleted is not among them."""
    found: dict[int, StoredPassage] = {}
    wanted = list(dict.fromkeys(numbers))
    for start in range(0, len(wanted), _ROWS_AT_ONCE):
        some = wanted[start : start + _ROWS_AT_ONCE]
        rows = connection.execute(_WITH_DOCUMENT.where(passages.c.index_id == index_id, passages.c.number.in_(some)))
        found |= {row["number"]: _passage(row) for row in rows.mappings()}
    return found


def hold_passages(connection: Connection, index_id: str, numbers: Collection[int]) -> None:
    """Let nobody delete passages, their documents or their index until the transaction ends."""
    hold_index(connection, index_id)
    theirs = select(passages.c.document_number).where(passages.c.number.in_(numbers))
    documents = select(index_documents.c.number).where(index_documents.c.number.in_(theirs))
    connection.execute(documents.order_by(index_documents.c.number).with_for_update(read=True, key_share=True))


def iterate_passages(store: Store, index_id: str) -> Iterator[tuple[StoredPassage, ...]]:
    """All passages of an index in batches, in the order of their numbers, those of documents in progress included.

    Each batch is a look of its own: keep others from changing the index meanwhile.
    """
    after = 0
    while True:
        wanted = _WITH_DOCUMENT.where(passages.c.index_id == index_id, passages.c.number > after)
        with store.reading() as connection:
            rows = connection.execute(wanted.order_by(passages.c.number).limit(_ROWS_AT_ONCE)).mappings().all()
        if not rows:
            return
        yield tuple(map(_passage, rows))
        after = rows[-1]["number"]


def list_passage_numbers(connection: Connection, index_id: str) -> list[tuple[int, int]]:
    """Of every passage that can be found, its number and that of its document, in the order of the former."""
    wanted = (
        select(passages.c.number, passages.c.document_number)
        .join(index_documents, passages.c.document_number == index_documents.c.number)
        .where(passages.c.index_id == index_id, index_documents.c.status == DocumentStatus.COMPLETED.value)
        .order_by(passages.c.number)
    )
    return [(row.number, row.document_number) for row in connection.execute(wanted)]


def list_passages_of(connection: Connection, document_number: int) -> tuple[StoredPassage, ...]:
    """The passages of a document, in their order."""
    wanted = _WITH_DOCUMENT.where(passages.c.document_number == document_number).order_by(passages.c.position)
    return tuple(map(_passage, connection.execute(wanted).mappings()))


def list_passages_named(connection: Connection, index_id: str, document_id: str) -> tuple[StoredPassage, ...]:
    """The passages of the document of this id that can be found, in their order; none where there is no such document."""
    named = (
        index_documents.c.index_id == index_id,
        index_documents.c.document_id == document_id,
        index_documents.c.status == DocumentStatus.COMPLETED.value,
    )
    wanted = _WITH_DOCUMENT.where(*named).order_by(passages.c.position)
    return tuple(map(_passage, connection.execute(wanted).mappings()))


_WITH_DOCUMENT = select(
    passages.c.number,
    passages.c.document_number,
    passages.c.position,
    passages.c.page,
    passages.c.title_path,
    passages.c.text,
    passages.c.num_tokens,
    passages.c.text_hash,
    passages.c.vector,
    index_documents.c.document_id,
    index_documents.c.source,
    index_documents.c.title,
    index_documents.c.attributes,
).join(index_documents, passages.c.document_number == index_documents.c.number)


def _known_vectors(connection: Connection, index_id: str, hashes: Collection[str]) -> dict[str, bytes]:
    wanted = select(passages.c.text_hash, passages.c.vector).where(
        passages.c.index_id == index_id, passages.c.text_hash.in_(hashes), passages.c.vector.is_not(None)
    )
    return {row.text_hash: row.vector for row in connection.execute(wanted)}


def _passage(row: RowMapping) -> StoredPassage:
    return StoredPassage(**{str(name): value for name, value in row.items()})
