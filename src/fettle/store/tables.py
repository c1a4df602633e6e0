"""The tables of the store; those of what comes after a study are in `release_tables.py`. A change wants a migration beside it
(`migrations/versions`), which a test compares with both files.

Every table that is listed page by page has a `number`, which grows from row to row: pages are cut by it, so that they neither
repeat nor lose a row where several are of the same second. Times are Unix seconds.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from fettle.store import release_tables as _release_tables  # noqa: F401 (so that `metadata` has all tables)
from fettle.store.columns import ID, NAME, NUMBER, metadata, number, project

projects = Table(
    "projects",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    project(),
    Column("name", NAME, nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),  # its last characters, by which a person knows it again
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

files = Table(
    "files",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    project(),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
)

uploads = Table(
    "uploads",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    project(),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("mime_type", NAME, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("file_lives_seconds", BigInteger),
    Column("file_id", ID),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    Column("upload_id", ID, ForeignKey("uploads.id"), nullable=False, index=True),
    Column("num_bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    project(),
    Column("kind", String(32), nullable=False),
    Column("status", String(32), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("estimated_finish", BigInteger),
    Column("request", JSON, nullable=False),  # what was asked for, resolved as far as it can be without the data
    Column("metadata", JSON(none_as_null=True)),
    Column("used", JSON(none_as_null=True)),  # hyperparameters that were really used
    Column("model", NAME, nullable=False),
    Column("training_file", ID),
    Column("validation_file", ID),
    Column("tuned_model", NAME),
    Column("num_trained_tokens", BigInteger),
    Column("results_files", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("lease_owner", NAME),
    Column("lease_token", BigInteger, nullable=False, default=0),
    Column("lease_expires_at", Float(53)),
    Column("num_crashes", Integer, nullable=False, default=0),
    Column("eval_id", ID, index=True),  # of a run: what it belongs to
)

job_metadata = Table(  # the same as `jobs.metadata`, to be searched: paths into JSON do not take every key
    "job_metadata",
    metadata,
    Column("job_id", ID, ForeignKey("jobs.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(512), nullable=False),
)

job_events = Table(
    "job_events",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    Column("job_id", ID, ForeignKey("jobs.id"), nullable=False),
    Column("key", NAME, nullable=False),  # says which event of the job it is, so that none is written twice
    Column("created_at", BigInteger, nullable=False),
    Column("level", String(8), nullable=False),
    Column("type", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    UniqueConstraint("job_id", "key"),
)

job_checkpoints = Table(
    "job_checkpoints",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    Column("job_id", ID, ForeignKey("jobs.id"), nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("model", NAME, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("metrics", JSON, nullable=False),
    UniqueConstraint("job_id", "step"),
)

models = Table(
    "models",
    metadata,
    number(),
    Column("id", NAME, nullable=False, unique=True),
    project(),
    Column("base", NAME, nullable=False),  # public id of the base model
    Column("base_sha256", String(64), nullable=False),
    Column("template_sha256", String(64), nullable=False),
    Column("folder", Text, nullable=False),  # below the models folder of FETTLE_HOME
    Column("is_adapter", Integer, nullable=False),
    Column("job_id", ID),
    Column("step", BigInteger),  # null: what a job ended with
    Column("created_at", BigInteger, nullable=False),
)

base_models = Table(
    "base_models",
    metadata,
    Column("id", NAME, primary_key=True),  # public id
    Column("source", Text, nullable=False),  # as `models.resolve.resolve_model` takes it
    Column("kind", String(16), nullable=False, server_default="text"),
    Column("created_at", BigInteger, nullable=False),
)

aliases = Table(
    "aliases",
    metadata,
    Column("alias", NAME, primary_key=True),
    Column("target", NAME, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

evals = Table(
    "evals",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    project(),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("metadata", JSON(none_as_null=True)),
    Column("data_source", JSON, nullable=False),
    Column("criteria", JSON, nullable=False),
)

eval_items = Table(
    "eval_items",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    Column("run_id", ID, ForeignKey("jobs.id"), nullable=False),
    Column("position", BigInteger, nullable=False),  # of the row in the data, from 0
    Column("item", JSON, nullable=False),
    Column("sample", JSON(none_as_null=True)),  # null: not sampled yet
    Column("results", JSON(none_as_null=True)),  # of the criteria, in their order; null: not graded yet
    Column("status", String(8)),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("run_id", "position"),
)

Index("ix_eval_items_run_number", eval_items.c.run_id, eval_items.c.number)

indexes = Table(  # of passages; the API calls them vector stores
    "indexes",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    project(),
    Column("name", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("last_active_at", BigInteger, nullable=False),
    Column("expires_after_days", Integer),  # without being used; null: never
    Column("metadata", JSON(none_as_null=True)),
    Column("backend", String(16), nullable=False),
    Column("embedder", Text, nullable=False),
    Column("embedder_revision", Text, nullable=False),
    Column("num_dimensions", Integer, nullable=False),
    Column("passage_tokens", Integer, nullable=False),
    Column("overlap_tokens", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),  # rises with every change of what is in it
    Column("attributes_version", BigInteger, nullable=False, server_default="0"),  # rises where attributes alone change
    Column("replaces", ID),  # of one that is being made in another's place: whose; it is in no list
)

index_documents = Table(
    "index_documents",
    metadata,
    number(),
    Column("index_id", ID, ForeignKey("indexes.id"), nullable=False),
    Column("document_id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("file_id", ID),  # of a file that was attached over the API; null: it was read from a folder
    Column("status", String(16), nullable=False),  # in_progress: its passages cannot be found yet
    Column("error", JSON(none_as_null=True)),
    Column("num_bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("index_id", "document_id", "status"),  # what is found, and beside it what is made in its place
    sqlite_autoincrement=True,
)

passages = Table(
    "passages",
    metadata,
    number(),
    Column("index_id", ID, ForeignKey("indexes.id"), nullable=False),
    Column("document_number", NUMBER, ForeignKey("index_documents.number"), nullable=False),
    Column("position", Integer, nullable=False),  # in its document, from 0
    Column("page", Integer),
    Column("title_path", JSON, nullable=False),
    Column("text", Text, nullable=False),
    Column("num_tokens", Integer, nullable=False),
    Column("text_hash", String(32), nullable=False),  # of headings and text: equal ones are embedded once
    Column("vector", LargeBinary),  # little-endian float32; null: not embedded yet
    UniqueConstraint("document_number", "position"),
    sqlite_autoincrement=True,  # search files know passages by their numbers: none is ever given again
)

Index("ix_passages_index_number", passages.c.index_id, passages.c.number)
Index("ix_passages_index_hash", passages.c.index_id, passages.c.text_hash)

index_attempts = (
    Table(  # at files of `index_documents` that are in progress: one that ends its worker is not begun for ever
        "index_attempts",
        metadata,
        Column("document_number", NUMBER, ForeignKey("index_documents.number", ondelete="CASCADE"), primary_key=True),
        Column("num_attempts", Integer, nullable=False),
    )
)

index_batches = Table(  # files that were attached together
    "index_batches",
    metadata,
    number(),
    Column("id", ID, nullable=False, unique=True),
    Column("index_id", ID, ForeignKey("indexes.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("file_ids", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

model_indexes = Table(  # what is searched before a model answers
    "model_indexes",
    metadata,
    Column("model", NAME, primary_key=True),
    Column("project_id", ID, ForeignKey("projects.id"), primary_key=True),
    Column("index_id", ID, ForeignKey("indexes.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("num_passages", Integer, nullable=False),
    Column("method", String(16), nullable=False),
    Column("reranker", Text),
    Column("max_tokens", Integer),  # of all passages together; null: no bound
    Column("abstention", Text),  # what the model is told to say where passages do not answer; null: nothing
    Column("asks_for_citations", Integer, nullable=False),
    Column("system_begin", Text),  # where system messages ask, what all begin with; null: they are not searched for
    Column("system_end", Text, nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("seen_at", Float(53), nullable=False),  # by the database's clock
)

Index("ix_jobs_project_number", jobs.c.project_id, jobs.c.number)
Index("ix_indexes_project_number", indexes.c.project_id, indexes.c.number)
Index("ix_files_project_number", files.c.project_id, files.c.number)
Index("ix_job_events_job_number", job_events.c.job_id, job_events.c.number)
