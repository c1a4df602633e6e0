"""All resources. A new one adds its file and one line here."""

from __future__ import annotations

from fettle.server import (
    chat,
    checkpoint_permissions,
    embeddings,
    estimates,
    eval_runs,
    evals,
    feedback,
    files,
    graders,
    jobs,
    models,
    responses,
    uploads,
    vector_store_batches,
    vector_store_files,
    vector_store_search,
    vector_stores,
    weights,
)

ROUTERS = (
    files.router,
    uploads.router,
    jobs.router,
    checkpoint_permissions.router,
    estimates.router,
    graders.router,
    evals.router,
    eval_runs.router,
    chat.router,
    responses.router,
    embeddings.router,
    feedback.router,
    vector_stores.router,
    vector_store_search.router,
    vector_store_batches.router,
    vector_store_files.router,
    weights.router,
    models.router,
)
