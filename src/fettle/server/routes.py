"""All resources. A new one adds its file and one line here."""

from __future__ import annotations

from fettle.server import chat, embeddings, eval_runs, evals, graders, jobs, models

ROUTERS = (chat.router, embeddings.router, evals.router, eval_runs.router, graders.router, jobs.router, models.router)
