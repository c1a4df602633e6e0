"""All resources. A new one adds its file and one line here."""

from __future__ import annotations

from fettle.server import chat, estimates, files, graders, jobs, models, uploads, weights

ROUTERS = (
    chat.router,
    files.router,
    uploads.router,
    jobs.router,
    estimates.router,
    graders.router,
    weights.router,
    models.router,
)
