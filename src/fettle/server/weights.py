"""The weights of a tuned model, to be had by whom it belongs to: what OpenAI's API has never given."""

from __future__ import annotations

import logging
import re
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from fettle.errors import ModelError
from fettle.export.archive import AdapterArchive
from fettle.models.resolve import resolve_model
from fettle.server.context import ContextOf, OwnerOf
from fettle.server.errors import ApiError, invalid
from fettle.server.files import download_headers
from fettle.store.models import TunedModel, base_of, find_model, folder_of

_logger = logging.getLogger("fettle.server")
router = APIRouter(prefix="/models", tags=["models"])


@router.get(
    "/{name:path}/weights",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-tar": {}}, "description": "A TAR archive of a PEFT folder."}},
)
def weights(
    name: str,
    context: ContextOf,
    owner: OwnerOf,
    format: Literal["adapter"] = "adapter",  # noqa: A002, ARG001 (a name of the wire; the one value that there is)
) -> StreamingResponse:
    """A tuned model as a TAR archive: a PEFT adapter with tokenizer and chat template."""
    with context.store.reading() as connection:
        model = find_model(connection, owner.project_id, name)
        if not isinstance(model, TunedModel):
            raise invalid(f"The model `{name}` is a base model: no weights of it were tuned here.", "model")
        base = base_of(connection, model)
    if not model.is_adapter:
        message = (
            f"All weights of the model `{name}` were tuned, so there is no adapter; `fettle models export` has it."
        )
        raise invalid(message, "format")
    folder = re.sub(r"[^A-Za-z0-9_.-]", "-", model.id)
    try:
        archive = AdapterArchive(
            folder_of(context.store, model),
            resolve_model(base.source),
            template_sha256=model.template_sha256,
            name=folder,
        )
    except ModelError as error:  # its words are about paths
        _logger.error("the weights of %s cannot be sent: %s", model.id, error.describe())
        message = f"The weights of the model `{name}`, or its base model's tokenizer, are gone or have changed since."
        raise ApiError(message, status=404, code="model_not_found", param="model") from error
    headers = download_headers(f"{folder}.tar", archive.num_bytes)
    return StreamingResponse(archive.chunks(), media_type="application/x-tar", headers=headers)
