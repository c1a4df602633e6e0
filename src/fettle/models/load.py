"""Weights to a model in memory, with its tokenizer and chat renderer, at a stated precision."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.chat.renderer import ChatRenderer
from fettle.errors import ModelError, ResourceError, disk_errors_explained
from fettle.models.precision import Precision, choose_precision
from fettle.models.resolve import ResolvedModel, WeightsKind
from fettle.settings import get_settings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MAX_FLOAT32_COPY_BYTES = 2 * 2**30  # a GGUF file larger than this is kept as bf16 when it is converted
_UNBOUNDED = 1 << 20
"""Tokens that a model takes which has no positions, such as Mamba."""
_WORKING_MEMORY_FACTOR = 1.5  # activations and copies beside the weights, measured generously


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A base model in memory, without any adapter."""

    source: ResolvedModel
    model: PreTrainedModel
    renderer: ChatRenderer
    precision: Precision
    """EXACT or FAST, never AUTO."""
    plain_reason: str | None = None
    """Why the model has to be run in the plain way, by its own forward, which is slower; None: it can be run in packed rows."""

    @property
    def max_tokens(self) -> int:
        """Longest sequence the model takes, tokens.

        LongRoPE (Ding et al. 2024) turns all positions of a batch otherwise as soon as one lies beyond
        `original_max_position_embeddings`. An answer would then depend on its neighbours, so such a model is taken up to there.
        """
        config = self.model.config.get_text_config()
        rope = getattr(config, "rope_parameters", None) or {}
        forms = [form for form in (rope, *rope.values()) if isinstance(form, dict)]
        bounds = [form["original_max_position_embeddings"] for form in forms if form.get("rope_type") == "longrope"]
        return int(min([getattr(config, "max_position_embeddings", _UNBOUNDED), *bounds]))

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """The tokens that end an answer: the end of turn, and what the model's own files call the end of a text."""
        generation = self.model.generation_config
        configured = generation.eos_token_id if generation is not None else None
        listed = configured if isinstance(configured, list) else [configured]
        stops = [self.renderer.end_of_turn_id, self.renderer.tokenizer.eos_token_id, *listed]
        return frozenset(stop for stop in stops if isinstance(stop, int))


def load_tokenizer(source: ResolvedModel) -> PreTrainedTokenizerBase:
    """The tokenizer of a model alone, with its chat template.

    Raises:
        ModelError: There is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    folder = source.path if source.kind is WeightsKind.FOLDER else converted_folder(source)
    with _load_errors_explained(source):
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def load_model(source: ResolvedModel, precision: Precision = Precision.AUTO) -> LoadedModel:
    """Load a model for answering and training.

    Raises:
        ModelError: The files are damaged or of a class that transformers does not know.
        ResourceError: The model does not fit into this machine's memory.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from fettle.models.understood import why_not_understood

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if threads := get_settings().threads:
        torch.set_num_threads(threads)
    chosen = choose_precision(precision)
    dtype = torch.bfloat16 if chosen is Precision.FAST else torch.float32
    if source.kind is WeightsKind.FOLDER:
        _refuse_what_does_not_fit(source, dtype)
    tokenizer = load_tokenizer(source)
    folder = source.path if source.kind is WeightsKind.FOLDER else converted_folder(source)
    with _load_errors_explained(source):
        model, report = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues] (a pair with a report)
            str(folder),
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        _refuse_what_is_incomplete(report)
    if torch.cuda.is_available():
        model = model.to("cuda")  # pyright: ignore[reportArgumentType] (a device string is accepted)
    model.eval()
    model.requires_grad_(requires_grad=False)
    return LoadedModel(
        source=source,
        model=model,
        renderer=ChatRenderer(tokenizer),
        precision=chosen,
        plain_reason=why_not_understood(model),
    )


def save_model(loaded: LoadedModel, folder: Path) -> None:
    """Write a model in memory, with its tokenizer, as a folder in Hugging Face format; it replaces an earlier one when whole."""
    with disk_errors_explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            with redirect_stderr(StringIO()):  # its progress bar cannot be switched off otherwise
                loaded.model.save_pretrained(temporary)
            loaded.renderer.tokenizer.save_pretrained(temporary)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def reload_weights(loaded: LoadedModel) -> None:
    """Give a model in memory the weights of its files again."""
    import torch

    fresh = load_model(loaded.source, loaded.precision).model.state_dict()
    with torch.no_grad():
        for name, tensor in loaded.model.state_dict().items():
            tensor.copy_(fresh[name])


@contextmanager
def _load_errors_explained(source: ResolvedModel) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the model cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})",
            where=str(source.path),
            remedy="check that the folder holds config.json, the tokenizer and undamaged *.safetensors of one model",
        ) from error


def _refuse_what_is_incomplete(report: Mapping[str, Any]) -> None:
    """Turn what transformers only logs into an error: tensors that it drew at random because the files lack them."""
    if random := sorted([*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])]):
        raise ValueError(f"{len(random)} tensors are not in the files, the first is {random[0]}")


def _refuse_what_does_not_fit(source: ResolvedModel, dtype: torch.dtype) -> None:
    import psutil
    import torch

    with _load_errors_explained(source):
        num_values = sum(_num_values(file) for file in source.weight_files)
    needed = num_values * dtype.itemsize * _WORKING_MEMORY_FACTOR
    if torch.cuda.is_available():
        free, what = torch.cuda.mem_get_info()[0], "GPU memory"
    else:
        free, what = psutil.virtual_memory().available, "memory"
    if needed > free:
        raise ResourceError(
            f"this model needs about {needed / 2**30:.1f} GiB of {what}, and {free / 2**30:.1f} GiB are free",
            where=str(source.path),
            remedy="use a smaller model, --precision fast, or a machine with more memory",
        )


def _num_values(file: Path) -> int:
    """Numbers stored in a safetensors file, by its header alone."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118 (no dict)


def converted_folder(source: ResolvedModel) -> Path:
    """The folder in Hugging Face format with a GGUF file's weights as safetensors, made once and kept under FETTLE_HOME.

    The conversion keeps fp32 where that is small (dequantised values are exact there), else bf16.
    """
    folder = get_settings().home / "models" / f"{source.public_id}-{source.sha256()[:16]}"
    if (folder / "config.json").is_file():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    dtype = torch.float32 if source.num_weight_bytes * 4 < _MAX_FLOAT32_COPY_BYTES else torch.bfloat16
    try:
        with redirect_stderr(StringIO()):  # its progress bar cannot be switched off otherwise
            tokenizer = AutoTokenizer.from_pretrained(str(source.path.parent), gguf_file=source.path.name)
            model = AutoModelForCausalLM.from_pretrained(
                str(source.path.parent),
                gguf_file=source.path.name,
                dtype=dtype,
                quantization_config=GgufConfig(dequantize=True),
            )
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ModelError(
            f"this GGUF file cannot be read ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})",
            where=str(source.path),
            remedy="use a GGUF file of a model class that transformers knows, or a folder in Hugging Face format",
        ) from error
    with disk_errors_explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
        try:
            with redirect_stderr(StringIO()):  # another progress bar
                model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            try:
                temporary.rename(folder)
            except OSError:
                if not (folder / "config.json").is_file():  # another process was not faster: a real error
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
