"""Messages to a parcel service, and requests as they are kept, with what was said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from fettle.examples.bundled import bundled_task
from fettle.store.traffic import Feedback, KeptRequest
from fettle.traffic.drift import Request
from indexed import WordEmbedder

EMBEDDER = WordEmbedder(64)


def messages() -> list[str]:
    """660 messages to a parcel service."""
    task = bundled_task("example:routing")
    assert task is not None
    return [json.loads(line)["message"] for line in task.examples.read_text().splitlines()]


def asked(texts: list[str], **more: float) -> list[Request]:
    return [Request(id=f"chatcmpl-{number}", text=text, **more) for number, text in enumerate(texts)]


ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is parcel seven of mine?"}]


def kept(completion_id: str, asked: list[dict[str, Any]] | None = None, **values: Any) -> KeptRequest:
    plain = KeptRequest(
        id=completion_id,
        project_id="proj_1",
        key_id="key_1",
        model="tiny",
        request={"messages": asked or ASKED},
        answer={"role": "assistant", "content": "On its way."},
        finish_reason="stop",
        confidence=None,
        num_prompt_tokens=7,
        num_completion_tokens=3,
        seconds=0.5,
        is_redacted=True,
        created_at=1,
        expires_at=2,
    )
    return replace(plain, **values)


def asking(text: str) -> list[dict[str, Any]]:
    return [ASKED[0], {"role": "user", "content": text}]


def said(completion_id: str, score: float | None = None, corrected: str | None = None) -> Feedback:
    return Feedback(
        id="fdbk_1",
        project_id="proj_1",
        completion_id=completion_id,
        score=score,
        corrected_answer=corrected,
        comment=None,
        created_at=1,
    )
