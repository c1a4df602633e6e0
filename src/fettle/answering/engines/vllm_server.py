"""A vLLM server as we talk to it: which models it serves, and the adapters that it is told to load beside them.

The server has to see an adapter's folder under the same path, and to allow adapters to be loaded while it runs.

Source: vLLM's documentation, "OpenAI-Compatible Server" and "LoRA Adapters" (`/v1/load_lora_adapter`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from fettle.answering.address import public_address, require_http_address, without_query
from fettle.errors import RemoteError
from fettle.models.resolve import ResolvedModel, public_id
from fettle.settings import get_settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_TIMEOUT_SECONDS, _CONNECT_TIMEOUT_SECONDS = 600.0, 10.0
_MAX_RETRIES = 2
SETTING = "FETTLE_VLLM_URL"


class _Card(BaseModel):
    id: str
    parent: str | None = None
    """The base model of an adapter."""
    root: str | None = None
    """Where the weights lie."""
    max_model_len: int | None = None


class _Cards(BaseModel):
    data: list[_Card]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedBase:
    """A base model as the server serves it."""

    id: str
    """What the server calls it."""
    max_tokens: int | None
    """Longest prompt and answer together; None: the server does not say."""
    root: str | None = None
    """Where the server has its weights from."""

    def is_model(self, base: ResolvedModel) -> bool:
        """Whether it is one of our base models: by the place of its weights, or by its name."""
        if self.root is not None and Path(self.root).absolute() == base.path.absolute():
            return True
        names = (self.id, self.root or self.id)
        return base.public_id in {public_id(name.rstrip("/").rpartition("/")[2]) for name in names}


class VllmServer:
    """Talks to a server; nothing is asked before something is wanted of it.

    Args:
        url: Base URL, ending in /v1.

    Raises:
        ConfigError: The URL is none.
    """

    def __init__(self, url: str) -> None:
        require_http_address(url, where=SETTING)
        self._url = url
        self.address = public_address(url)
        """The URL without what may be secret in it."""
        from openai import OpenAI

        self.client: OpenAI = OpenAI(**self._connection(), max_retries=_MAX_RETRIES)

    def async_client(self) -> AsyncOpenAI:
        """A client for an event loop. It asks again only where a connection broke before an answer began."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(**self._connection(), max_retries=1)

    def bases(self) -> Sequence[ServedBase]:
        """The base models that the server serves.

        Raises:
            RemoteError: It does not answer as a vLLM server does.
        """
        cards = self._cards()
        return [
            ServedBase(id=card.id, max_tokens=card.max_model_len, root=card.root)
            for card in cards
            if card.parent is None
        ]

    def first_base(self) -> ServedBase:
        """The base model that the server serves.

        Raises:
            RemoteError: It serves none, or does not answer.
        """
        bases = self.bases()
        if not bases:
            raise RemoteError("the server serves no model", where=self.address, remedy="start it with the base model")
        return bases[0]

    def has_adapter(self, name: str) -> bool:
        """Whether the server has an adapter of this name.

        Raises:
            RemoteError: It does not answer.
        """
        return any(card.id == name and card.parent is not None for card in self._cards())

    def load_adapter(self, name: str, folder: Path) -> None:
        """Have an adapter beside the base model, in place of one of this name that an earlier run left.

        Raises:
            RemoteError: The server does not load it.
        """
        self.unload_adapter(name)
        try:
            self._post("/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.absolute())})
        except RemoteError as error:
            raise RemoteError(
                f"the server does not load the adapter {name} ({error.problem})",
                where=self.address,
                remedy="start it with --enable-lora, --max-lora-rank of the adapter's rank or more and "
                f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, on a machine that sees the folder {folder} under this path",
            ) from error

    def unload_adapter(self, name: str) -> None:
        """Take an adapter off, where the server answers and has it."""
        with suppress(RemoteError):
            self._post("/unload_lora_adapter", {"lora_name": name})

    @contextmanager
    def errors_explained(self) -> Iterator[None]:
        """Turn what the client raises into words.

        Raises:
            RemoteError: The server did not answer as one does.
        """
        from openai import OpenAIError

        try:
            yield
        except (OpenAIError, ValidationError, ValueError) as error:
            raise explained(error, self.address) from error

    def _connection(self) -> dict[str, Any]:
        from openai import Timeout

        key = get_settings().vllm_api_key
        base, query = without_query(self._url)
        return {
            "base_url": base,
            "default_query": dict(parse_qsl(query)),
            "api_key": key.get_secret_value() if key else "none",
            "timeout": Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_TIMEOUT_SECONDS),
        }

    def _cards(self) -> list[_Card]:
        with self.errors_explained():
            raw = self.client.models.with_raw_response.list()
            return _Cards.model_validate_json(raw.http_response.content).data

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        with self.errors_explained():
            self.client.post(path, cast_to=str, body=dict(body))


def explained(error: Exception, address: str) -> RemoteError:
    """What went wrong between us and a server, in words."""
    from openai import APIStatusError

    told = f"HTTP {error.status_code}: {str(error.message)[:300]}" if isinstance(error, APIStatusError) else ""
    return RemoteError(
        f"the vLLM server did not answer as one does ({told or type(error).__name__})",
        where=address,
        remedy=f"check the address of --answer-with vllm=URL or {SETTING} (it ends in /v1), and FETTLE_VLLM_API_KEY; the same "
        "command then goes on where it was",
    )
