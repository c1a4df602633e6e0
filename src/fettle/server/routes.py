"""All resources. A new one adds its file and one line here."""

from __future__ import annotations

from fettle.server import chat, embeddings, graders, jobs, models

ROUTERS = (chat.router, embeddings.router, graders.router, jobs.router, models.router)
