"""Names to embedders, as `fettle index --embedder` takes them and indexes record them."""

from __future__ import annotations

from fettle.errors import ConfigError
from fettle.retrieval.embedder import EMBEDDER_ID, MiniLMEmbedder, PassageEmbedder

DEFAULT_EMBEDDER = MiniLMEmbedder.name
_ENDPOINT = "openai:"


def embedder_by_name(name: str = DEFAULT_EMBEDDER) -> PassageEmbedder:
    """The embedder of a name.

    Args:
        name: `all-MiniLM-L6-v2`, which comes with Fettle; a sentence-transformers model on this machine, by its folder or as
            `org/name` in Hugging Face's cache; or an OpenAI-compatible endpoint, `openai:URL#MODEL`.

    Raises:
        ConfigError: An endpoint's name lacks its URL or its model.
        ModelError: There is no such model on this machine, or it cannot be used.
    """
    if name.lower() == EMBEDDER_ID:
        return MiniLMEmbedder()
    if name.startswith(_ENDPOINT):
        from fettle.retrieval.embedders.endpoint import EndpointEmbedder

        url, _, model = name.removeprefix(_ENDPOINT).partition("#")
        if not url or not model:
            raise ConfigError(
                f"expected an endpoint's URL and its model, and it is {name!r}",
                where="--embedder",
                remedy="give openai:URL#MODEL, or --embedder-url URL --embedder MODEL",
            )
        return EndpointEmbedder(url, model)
    from fettle.retrieval.embedders.sentence_transformers import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(name)


def is_endpoint(name: str) -> bool:
    """Whether this is the name of an endpoint, whose model is known by what it is called alone.

    >>> is_endpoint("openai:http://127.0.0.1:9/v1#bge-m3"), is_endpoint("all-MiniLM-L6-v2")
    (True, False)
    """
    return name.startswith(_ENDPOINT)


def endpoint_name(url: str, model: str) -> str:
    """What an endpoint's embedder is called.

    >>> endpoint_name("http://127.0.0.1:9/v1", "bge-m3")
    'openai:http://127.0.0.1:9/v1#bge-m3'
    """
    return f"{_ENDPOINT}{url}#{model}"
