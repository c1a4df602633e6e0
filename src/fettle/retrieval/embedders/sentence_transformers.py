"""Any sentence-transformers model that lies on this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fettle.errors import ModelError
from fettle.files import iter_files, sha256_of_file, sha256_of_json
from fettle.models.device import chosen_device
from fettle.retrieval.embedder import batch_size_for, encodable, load_sentence_transformer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PASSAGE_PROMPTS = ("document", "passage", "corpus")  # the names that `encode_document` looks for, in its order
_MOST_TOKENS = 8192
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_WEIGHTS = ".safetensors"
_DECIDING = (_WEIGHTS, ".json", ".txt", ".model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a model is wanted for, as refusals say it."""

    name: str
    """Of the option as well."""
    kind: str
    marked_by: str
    """The file that is in every folder of such a model."""
    else_do: str
    """What does without one."""


_EMBEDDER = Role(
    name="embedder",
    kind="sentence-transformers model",
    marked_by="modules.json",
    else_do="leave it out for the one that comes with Fettle",
)


class SentenceTransformerEmbedder:
    """A model by its folder, or by its name in Hugging Face's cache. Loaded when it is first asked.

    Nothing is fetched, none of its own code is run, and weights are read from safetensors alone. Where the model was trained to be
    told questions and passages apart, it is told so by the prompts of its own configuration. It runs where `FETTLE_DEVICE` says.

    Args:
        name: A folder, or `org/name`.

    Raises:
        ModelError: There is no such model on this machine, or its weights are pickles.

    Source: Reimers and Gurevych 2019, "Sentence-BERT"; the library sentence-transformers.
    """

    def __init__(self, name: str) -> None:
        self._folder = folder_of(name, _EMBEDDER)
        self.name = str(self._folder) if Path(name).expanduser().is_dir() else name

    @property
    def revision(self) -> str:
        """Hash of weights, tokenizer and configuration, prompts included."""
        return self._revision

    @property
    def num_dimensions(self) -> int:
        """Length of a vector."""
        return self._num_dimensions

    @cached_property
    def _revision(self) -> str:
        return revision_of(self._folder)

    @cached_property
    def _num_dimensions(self) -> int:
        size = self._model.get_embedding_dimension()
        return size if size is not None else self.embed(["dimensions"]).shape[1]

    @property
    def max_tokens(self) -> int:
        """How much of a text counts, the prompt and the tokens around it included; at most 8,192 where the model knows no bound."""
        bound = self._model.max_seq_length or getattr(self._model.tokenizer, "model_max_length", _MOST_TOKENS)
        return int(min(bound, _MOST_TOKENS))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row of unit length per passage: [N, D], float32.

        Raises:
            ModelError: It cannot be loaded.
        """
        return self._embedded(texts, is_query=False)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `embed`, of questions.

        Raises:
            ModelError: It cannot be loaded.
        """
        return self._embedded(texts, is_query=True)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How long each passage is, with the model's own prompt and the tokens around it, be it longer than what counts.

        Raises:
            ModelError: It cannot be loaded.
        """
        from tokenizers import Tokenizer

        if not texts:
            return []
        prompts = self._model.prompts
        prompt = next((prompts[name] for name in _PASSAGE_PROMPTS if name in prompts), None) or ""
        whole = [prompt + encodable(text) for text in texts]
        tokenizer = self._model.tokenizer
        if isinstance(tokenizer, Tokenizer):  # of a model without layers
            return [len(encoding.ids) for encoding in tokenizer.encode_batch(whole, add_special_tokens=False)]
        return [len(row) for row in tokenizer(whole, verbose=False)["input_ids"]]

    def _embedded(self, texts: Sequence[str], *, is_query: bool) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.num_dimensions), dtype=np.float32)
        encode = self._model.encode_query if is_query else self._model.encode_document
        vectors_ND = encode(
            [encodable(text) for text in texts],
            batch_size=batch_size_for(texts),
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
        return np.asarray(vectors_ND, dtype=np.float32)

    @cached_property
    def _model(self) -> SentenceTransformer:
        try:
            model = load_sentence_transformer(self._folder, device=str(chosen_device()))
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"sentence-transformers cannot load this model ({said[:300]})",
                where=self.name,
                remedy="name a sentence-transformers model that needs no code of its own",
            ) from error
        return model.eval()


def revision_of(folder: Path) -> str:
    """Hash of all files of a model that decide what it computes.

    Raises:
        ModelError: They are gone.
    """
    deciding = [path for path in iter_files(folder) if path.suffix in _DECIDING]
    if not any(path.suffix == _WEIGHTS for path in deciding):
        raise ModelError(
            "the model's weights are gone", where=str(folder), remedy="put them back, or name another model"
        )
    return sha256_of_json([[str(path.relative_to(folder)), sha256_of_file(path)] for path in deciding])


def folder_of(name: str, role: Role) -> Path:
    """Where a model lies that is given by its folder, or by its name in Hugging Face's cache.

    Raises:
        ModelError: There is no such model on this machine, or its weights are pickles.
    """
    path = Path(name).expanduser()
    folder = path if path.is_dir() else _cached(name, role)
    if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
        raise ModelError(
            f"this folder holds no {role.kind}: there is no {role.marked_by} in it",
            where=str(folder),
            remedy=f"name the folder that holds {role.marked_by}",
        )
    if not any(path.suffix == _WEIGHTS for path in iter_files(folder)):
        pickles = [path.name for path in iter_files(folder) if path.suffix in _PICKLES]
        raise ModelError(
            "this folder holds no *.safetensors"
            + (f", only {', '.join(pickles[:3])}: pickles can run code when loaded" if pickles else ""),
            where=str(folder),
            remedy="convert the weights to safetensors first, or take a model that has them",
        )
    return folder.resolve()


def _cached(name: str, role: Role) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"no {role.name} {name!r} is on this machine, and none is fetched",
            where=f"--{role.name}",
            remedy=_remedy(name, role),
        ) from error


def _remedy(name: str, role: Role) -> str:
    """What to do where there is no such model."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return f"name a folder, or fetch it once with `hf download {name}`; {role.else_do}"
    if role is _EMBEDDER:
        return "name the folder where it lies now: an index is told with `fettle index DOCUMENTS --name NAME --embedder FOLDER`"
    return f"name the folder where it lies now; {role.else_do}"
