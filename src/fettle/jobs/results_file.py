"""Files that a job leaves in its project."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence

from fettle.files import write_atomically
from fettle.jobs.step_metrics import COLUMNS, StepMetrics
from fettle.store.database import Store, now
from fettle.store.files import RESULTS, StoredFile, content_of


def step_table(steps: Sequence[StepMetrics]) -> bytes:
    """One row for each step as CSV, empty cells where nothing was measured."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(step.row for step in steps)
    return text.getvalue().encode()


def written_file(
    store: Store, content: bytes, *, file_id: str, project_id: str, filename: str, purpose: str = RESULTS
) -> StoredFile:
    """A file with its content in its place; the row is still to be added."""
    file = StoredFile(
        id=file_id,
        project_id=project_id,
        filename=filename,
        purpose=purpose,
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created_at=now(),
    )
    write_atomically(content_of(store, file), content)
    return file
