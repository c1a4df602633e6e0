"""All resources. A new one adds its file and one line here."""

from __future__ import annotations

from fettle.server import files, graders, jobs, models, uploads, weights

ROUTERS = (files.router, uploads.router, jobs.router, graders.router, weights.router, models.router)
