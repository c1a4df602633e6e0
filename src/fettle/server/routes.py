"""All resources. A new one adds its file and one line here."""

from __future__ import annotations

from fettle.server import graders, jobs, models

ROUTERS = (graders.router, jobs.router, models.router)
