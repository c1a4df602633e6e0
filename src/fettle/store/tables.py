"""The tables of the store. A change here wants a migration beside it (`migrations/versions`), which a test compares with this file.

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
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID = String(64)
_NAME = String(255)
_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only INTEGER PRIMARY KEY up by itself


def _number() -> Column[int]:
    return Column("number", _NUMBER, primary_key=True, autoincrement=True)


def _project() -> Column[str]:
    return Column("project_id", _ID, ForeignKey("projects.id"), nullable=False, index=True)


projects = Table(
    "projects",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    _project(),
    Column("name", _NAME, nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),  # its last characters, by which a person knows it again
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

files = Table(
    "files",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    _project(),
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
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    _project(),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("mime_type", _NAME, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("file_lives_seconds", BigInteger),
    Column("file_id", _ID),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    Column("upload_id", _ID, ForeignKey("uploads.id"), nullable=False, index=True),
    Column("num_bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    _project(),
    Column("kind", String(32), nullable=False),
    Column("status", String(32), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("estimated_finish", BigInteger),
    Column("request", JSON, nullable=False),  # what was asked for, resolved as far as it can be without the data
    Column("metadata", JSON(none_as_null=True)),
    Column("used", JSON(none_as_null=True)),  # hyperparameters that were really used
    Column("model", _NAME, nullable=False),
    Column("training_file", _ID),
    Column("validation_file", _ID),
    Column("tuned_model", _NAME),
    Column("num_trained_tokens", BigInteger),
    Column("results_files", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("lease_owner", _NAME),
    Column("lease_token", BigInteger, nullable=False, default=0),
    Column("lease_expires_at", Float(53)),
    Column("num_crashes", Integer, nullable=False, default=0),
    Column("eval_id", _ID, index=True),  # of a run: what it belongs to
)

job_metadata = Table(  # the same as `jobs.metadata`, to be searched: paths into JSON do not take every key
    "job_metadata",
    metadata,
    Column("job_id", _ID, ForeignKey("jobs.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(512), nullable=False),
)

job_events = Table(
    "job_events",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    Column("job_id", _ID, ForeignKey("jobs.id"), nullable=False),
    Column("key", _NAME, nullable=False),  # says which event of the job it is, so that none is written twice
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
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    Column("job_id", _ID, ForeignKey("jobs.id"), nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("model", _NAME, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("metrics", JSON, nullable=False),
    UniqueConstraint("job_id", "step"),
)

models = Table(
    "models",
    metadata,
    _number(),
    Column("id", _NAME, nullable=False, unique=True),
    _project(),
    Column("base", _NAME, nullable=False),  # public id of the base model
    Column("base_sha256", String(64), nullable=False),
    Column("template_sha256", String(64), nullable=False),
    Column("folder", Text, nullable=False),  # below the models folder of FETTLE_HOME
    Column("is_adapter", Integer, nullable=False),
    Column("job_id", _ID),
    Column("step", BigInteger),  # null: what a job ended with
    Column("created_at", BigInteger, nullable=False),
)

base_models = Table(
    "base_models",
    metadata,
    Column("id", _NAME, primary_key=True),  # public id
    Column("source", Text, nullable=False),  # as `models.resolve.resolve_model` takes it
    Column("kind", String(16), nullable=False, server_default="text"),
    Column("created_at", BigInteger, nullable=False),
)

aliases = Table(
    "aliases",
    metadata,
    Column("alias", _NAME, primary_key=True),
    Column("target", _NAME, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

evals = Table(
    "evals",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    _project(),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("metadata", JSON(none_as_null=True)),
    Column("data_source", JSON, nullable=False),
    Column("criteria", JSON, nullable=False),
)

eval_items = Table(
    "eval_items",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    Column("run_id", _ID, ForeignKey("jobs.id"), nullable=False),
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
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    _project(),
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
    Column("replaces", _ID),  # of one that is being made in another's place: whose; it is in no list
)

index_documents = Table(
    "index_documents",
    metadata,
    _number(),
    Column("index_id", _ID, ForeignKey("indexes.id"), nullable=False),
    Column("document_id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("file_id", _ID),  # of a file that was attached over the API; null: it was read from a folder
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
    _number(),
    Column("index_id", _ID, ForeignKey("indexes.id"), nullable=False),
    Column("document_number", _NUMBER, ForeignKey("index_documents.number"), nullable=False),
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
        Column("document_number", _NUMBER, ForeignKey("index_documents.number", ondelete="CASCADE"), primary_key=True),
        Column("num_attempts", Integer, nullable=False),
    )
)

index_batches = Table(  # files that were attached together
    "index_batches",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    Column("index_id", _ID, ForeignKey("indexes.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("file_ids", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

model_indexes = Table(  # what is searched before a model answers
    "model_indexes",
    metadata,
    Column("model", _NAME, primary_key=True),
    Column("project_id", _ID, ForeignKey("projects.id"), primary_key=True),
    Column("index_id", _ID, ForeignKey("indexes.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("num_passages", Integer, nullable=False),
    Column("method", String(16), nullable=False),
    Column("reranker", Text),
    Column("max_tokens", Integer),  # of all passages together; null: no bound
    Column("abstention", Text),  # what the model is told to say where passages do not answer; null: nothing
    Column("asks_for_citations", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

releases = Table(  # rows are never changed: `release_events` say what became of them
    "releases",
    metadata,
    _number(),
    _project(),
    Column("name", _NAME, nullable=False),
    Column("release_number", Integer, nullable=False),  # from 1 for each name
    Column("created_at", BigInteger, nullable=False),
    Column("contender", JSON, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("content_sha256", String(64), nullable=False),
    UniqueConstraint("project_id", "name", "release_number"),
)

release_events = Table(
    "release_events",
    metadata,
    _number(),
    _project(),
    Column("name", _NAME, nullable=False),
    Column("release_number", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("who", _NAME, nullable=False),
    Column("reason", Text),
    Column("content_sha256", String(64), nullable=False),
)

router_days = Table(  # what the routers of a name have spent on their large models
    "router_days",
    metadata,
    Column("project_id", _ID, ForeignKey("projects.id"), primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("day", String(10), primary_key=True),  # of UTC, YYYY-MM-DD
    Column("spent", Float(53), nullable=False),  # in the user's currency
)

router_reservations = Table(  # what requests that are under way may spend
    "router_reservations",
    metadata,
    _number(),
    _project(),
    Column("name", _NAME, nullable=False),
    Column("day", String(10), nullable=False),
    Column("amount", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False),  # by the database's clock; then the amount counts as spent
)

traffic_rules = Table(  # whose requests are kept; a key without a row: none
    "traffic_rules",
    metadata,
    Column("key_id", _ID, ForeignKey("keys.id", ondelete="CASCADE"), primary_key=True),
    Column("num_days", Integer, nullable=False),
    Column("share", Float(53), nullable=False),  # of requests that are kept with their texts; the others are without
    Column("redacts", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

kept_requests = Table(  # their ids are those of the completions
    "kept_requests",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    _project(),
    Column("key_id", _ID, nullable=False),
    Column("model", _NAME, nullable=False),  # as it was asked for
    Column("release", JSON(none_as_null=True)),  # name, number and contender of what answered; null: no release
    Column("request", JSON(none_as_null=True)),  # messages and tools; null: the texts are not kept
    Column("answer", JSON(none_as_null=True)),  # a message
    Column("finish_reason", String(16), nullable=False),
    Column("confidence", Float(53)),  # mean log-probability of the answer's tokens; null: not asked for
    Column("num_prompt_tokens", BigInteger, nullable=False),
    Column("num_completion_tokens", BigInteger, nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("is_redacted", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

feedback = Table(
    "feedback",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    _project(),
    Column("completion_id", _ID, ForeignKey("kept_requests.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("score", Float(53)),
    Column("corrected_answer", Text),
    Column("comment", Text),
    Column("created_at", BigInteger, nullable=False),
)

challenges = Table(  # what was agreed is never changed; a row ends once
    "challenges",
    metadata,
    _number(),
    Column("id", _ID, nullable=False, unique=True),
    _project(),
    Column("name", _NAME, nullable=False),  # of the release that is challenged
    Column("challenger_number", Integer, nullable=False),
    Column("incumbent_number", Integer, nullable=False),
    Column("terms", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("who", _NAME, nullable=False),
    Column("ended_at", BigInteger),
    Column("ended_by", _NAME),
    Column("decision", String(16)),  # null: not decided
    Column("reason", Text),  # why it has ended
)

challenge_outcomes = Table(  # they stay when the request that they are of is deleted: what was decided rests on them
    "challenge_outcomes",
    metadata,
    _number(),
    Column("challenge_id", _ID, ForeignKey("challenges.id"), nullable=False),
    Column("completion_id", _ID, nullable=False),
    Column("assignment", String(64), nullable=False),  # a hash of the conversation or the user
    Column("is_challenger", Integer, nullable=False),
    Column("score", Float(53), nullable=False),
    Column("incumbent_score", Float(53)),  # of a pair; null: the outcome of one answer
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("challenge_id", "completion_id"),
)

challenge_looks = Table(
    "challenge_looks",
    metadata,
    _number(),
    Column("challenge_id", _ID, ForeignKey("challenges.id"), nullable=False, index=True),
    Column("num_outcomes", Integer, nullable=False),
    Column("look", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

shadow_answers = Table(  # beside the answer that the user got, and gone with it
    "shadow_answers",
    metadata,
    Column("completion_id", _ID, ForeignKey("kept_requests.id", ondelete="CASCADE"), primary_key=True),
    Column("challenge_id", _ID, ForeignKey("challenges.id"), nullable=False, index=True),
    Column("answer", JSON, nullable=False),  # a message
    Column("finish_reason", String(16), nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("seen_at", Float(53), nullable=False),  # by the database's clock
)

Index("ix_jobs_project_number", jobs.c.project_id, jobs.c.number)
Index("ix_indexes_project_number", indexes.c.project_id, indexes.c.number)
Index("ix_release_events_name_number", release_events.c.name, release_events.c.number)
Index("ix_router_reservations_name_day", router_reservations.c.name, router_reservations.c.day)
Index(
    "uq_challenges_open",  # one challenge of a name at a time
    challenges.c.project_id,
    challenges.c.name,
    unique=True,
    sqlite_where=challenges.c.ended_at.is_(None),
    postgresql_where=challenges.c.ended_at.is_(None),
)
Index("ix_kept_requests_project_number", kept_requests.c.project_id, kept_requests.c.number)
Index("ix_files_project_number", files.c.project_id, files.c.number)
Index("ix_job_events_job_number", job_events.c.job_id, job_events.c.number)
