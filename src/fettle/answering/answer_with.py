"""Which engine answers for the model itself, as the user names it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fettle.answering.address import require_http_address
from fettle.errors import ConfigError

_FLAG = "--answer-with"


class EngineKind(StrEnum):
    """What runs the weights."""

    LOCAL = "local"
    """The reference: the transformers model that was trained."""
    OPENVINO = "openvino"
    LLAMACPP = "llamacpp"
    VLLM = "vllm"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerWith:
    """The engine of the base model and of what was trained. One other than the reference is held against it first."""

    kind: EngineKind = EngineKind.LOCAL
    url: str | None = None
    """Base URL of a vLLM server, ending in /v1; None for the others."""

    def __post_init__(self) -> None:
        """Refuse what names no engine.

        Raises:
            ConfigError: vLLM without an address, an address for another engine, or one that is none.
        """
        if (self.kind is EngineKind.VLLM) != (self.url is not None):
            raise ConfigError(
                "vLLM needs the address of its server, and no other engine takes one",
                where=_FLAG,
                remedy=f"give {_FLAG} vllm=http://your-server:8000/v1, or another engine without an address",
            )
        if self.url is not None:
            require_http_address(self.url, where=_FLAG)


def parse_answer_with(text: str) -> AnswerWith:
    """The engine that a command line names.

    Raises:
        ConfigError: It names none.

    >>> parse_answer_with("vllm=http://localhost:8000/v1").url
    'http://localhost:8000/v1'
    """
    name, has_address, address = text.partition("=")
    if name not in list(EngineKind):
        raise ConfigError(
            f"there is no engine {name!r}",
            where=_FLAG,
            remedy=f"choose one of {', '.join(kind for kind in EngineKind if kind is not EngineKind.VLLM)}, or vllm=URL",
        )
    return AnswerWith(kind=EngineKind(name), url=address if has_address else None)
