"""All resources. A new one adds its file and one line here."""

from __future__ import annotations

from fettle.server import jobs, models

ROUTERS = (jobs.router, models.router)
