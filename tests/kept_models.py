"""Tuned models in a store, without a job that has trained them."""

from __future__ import annotations

import shutil
from pathlib import Path

from fettle.chat.renderer import ChatRenderer
from fettle.models.load import load_tokenizer
from fettle.models.resolve import resolve_model
from fettle.store.database import Store, now
from fettle.store.keys import ensure_project
from fettle.store.models import TunedModel, add_tuned_model, folder_of, put_base_model


def keep_tuned(
    store: Store, base: Path, adapter: Path, *, project: str = "default", letters: str = "abcd1234"
) -> TunedModel:
    """A tuned model of a project, its base model served as well; the adapter's files are copied."""
    resolved = resolve_model(str(base))
    with store.writing() as connection:
        put_base_model(connection, resolved.public_id, str(base.resolve()))
        model = TunedModel(
            id=f"ft:{resolved.public_id}:fettle::{letters}",
            project_id=ensure_project(connection, project).id,
            base=resolved.public_id,
            base_sha256=resolved.sha256(),
            template_sha256=ChatRenderer(load_tokenizer(resolved)).template.sha256,
            folder=f"ftjob-{letters}/final",
            is_adapter=True,
            job_id=f"ftjob-{letters}",
            step=None,
            created_at=now(),
        )
        add_tuned_model(connection, model)
    shutil.copytree(adapter, folder_of(store, model))
    return model
