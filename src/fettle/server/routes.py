"""All resources. A new one adds its file and one line here."""

from __future__ import annotations

from fettle.server import (
    chat,
    checkpoint_permissions,
    embeddings,
    estimates,
    eval_runs,
    evals,
    files,
    graders,
    jobs,
    models,
    responses,
    uploads,
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
    weights.router,
    models.router,
)
