"""Weights to a model in memory, with its tokenizer and chat renderer, at a stated precision."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.chat.renderer import ChatRenderer
from fettle.errors import ModelError, ResourceError, disk_errors_explained
from fettle.models.device import chosen_device
from fettle.models.precision import BaseWeights, Precision, choose_precision
from fettle.models.resolve import ResolvedModel, WeightsKind
from fettle.settings import get_settings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fettle.models.division import Division

_MAX_FLOAT32_COPY_BYTES = 2 * 2**30  # a GGUF file larger than this is kept as bf16 when it is converted
_UNBOUNDED = 1 << 20
"""Tokens that a model takes which has no positions, such as Mamba."""
_NF4_BYTES = 0.52
"""A weight in NF4, with its share of the scales."""
WORKING_MEMORY_FACTOR = 1.5
"""Activations and copies beside the weights, measured generously."""


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
    base_weights: BaseWeights = BaseWeights.AS_GIVEN
    division: Division | None = None
    """What this process holds of a model that several hold together; None: it holds it whole."""

    @property
    def name(self) -> str:
        """The model, and whether it is quantised."""
        return named(self.source, self.base_weights)

    def in_use(self) -> AbstractContextManager[None]:
        """Within it the model computes; a divided one is let go of at its end, be it an error."""
        return nullcontext() if self.division is None else self.division.in_use()

    def release(self) -> None:
        """Let go of the other processes, where the model is divided: it cannot compute any more."""
        if self.division is not None:
            self.division.close()

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


def named(source: ResolvedModel, base_weights: BaseWeights) -> str:
    """A model's name, with the form of its weights where they are quantised."""
    return source.public_id + (" in NF4" if base_weights is BaseWeights.NF4 else "")


def load_tokenizer(source: ResolvedModel) -> PreTrainedTokenizerBase:
    """The tokenizer of a model alone, with its chat template.

    Raises:
        ModelError: There is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    folder = source.path if source.kind is WeightsKind.FOLDER else converted_folder(source)
    with load_errors_explained(source):
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def load_model(
    source: ResolvedModel,
    precision: Precision = Precision.AUTO,
    base_weights: BaseWeights = BaseWeights.AS_GIVEN,
    device: torch.device | None = None,
) -> LoadedModel:
    """Load a model for answering and training, onto `device`; None: that of the settings.

    Raises:
        ModelError: The files are damaged, of a class that transformers does not know, or hold quantised weights that were not
            asked for.
        ConfigError: NF4 is asked for, and bitsandbytes is not installed; or the device of `FETTLE_DEVICE` is not there.
        ResourceError: The model does not fit into this machine's memory.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from fettle.models.nf4 import (
        compute_by_dequantising,
        free_what_was_quantised,
        import_bitsandbytes,
        require_bitsandbytes,
        require_nf4,
    )
    from fettle.models.understood import why_not_understood

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if threads := get_settings().threads:
        torch.set_num_threads(threads)
    device, chosen = device or chosen_device(), choose_precision(precision)
    dtype = torch.bfloat16 if chosen is Precision.FAST else torch.float32
    is_nf4 = base_weights is BaseWeights.NF4
    if is_nf4:
        require_bitsandbytes()
    else:
        import_bitsandbytes()  # PEFT would, less quietly
    refuse_other_quantisation(source, base_weights)
    if source.kind is WeightsKind.FOLDER:
        _refuse_what_does_not_fit(source, dtype, base_weights)
    tokenizer = load_tokenizer(source)
    folder = source.path if source.kind is WeightsKind.FOLDER else converted_folder(source)
    with load_errors_explained(source):
        model, report = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues] (a pair with a report)
            str(folder),
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **({"device_map": {"": device}} | _quantisation(folder, dtype) if is_nf4 else {}),
        )
        _refuse_what_is_incomplete(report)
    if is_nf4:  # it lies where it was quantised
        free_what_was_quantised(model, dtype)
        compute_by_dequantising(model)
        require_nf4(model)
    else:
        model = model.to(device)  # pyright: ignore[reportArgumentType] (a device is accepted)
    model.eval()
    model.requires_grad_(requires_grad=False)
    return LoadedModel(
        source=source,
        model=model,
        renderer=ChatRenderer(tokenizer),
        precision=chosen,
        plain_reason=why_not_understood(model),
        base_weights=base_weights,
    )


def save_model(loaded: LoadedModel, folder: Path) -> None:
    """Write a model in memory, with its tokenizer, as a folder in Hugging Face format; it replaces an earlier one when whole."""
    with _temporary_beside(folder) as temporary:
        write_model(loaded.model, loaded.renderer.tokenizer, temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)


def write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model's files and its tokenizer's into a folder, in Hugging Face format."""
    with redirect_stderr(StringIO()):  # its progress bar cannot be switched off otherwise
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _temporary_beside(folder: Path) -> Iterator[Path]:
    """A hidden folder on the same disk, which is removed unless it was renamed."""
    with disk_errors_explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def require_form(loaded: LoadedModel) -> None:
    """Show that a model's weights are held as it says.

    Raises:
        IntegrityError: A layer that should be quantised is not.
    """
    if loaded.base_weights is BaseWeights.NF4:
        from fettle.models.nf4 import require_nf4

        require_nf4(loaded.model)


def put_weights_away(loaded: LoadedModel) -> None:
    """Free the memory of a model's weights. It cannot compute until `reload_weights` has been called."""
    for weight in loaded.model.parameters():
        weight.data = weight.data.new_empty(0)


def reload_weights(loaded: LoadedModel) -> None:
    """Give a model in memory the weights of its files again."""
    fresh = dict(load_model(loaded.source, loaded.precision).model.named_parameters())
    for name, weight in loaded.model.named_parameters():
        weight.data = fresh[name].data


@contextmanager
def load_errors_explained(source: ResolvedModel) -> Iterator[None]:
    """Within it what goes wrong with a model's files is told as a `ModelError`."""
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


def stored_quantisation(source: ResolvedModel) -> Mapping[str, Any] | None:
    """How the files of a model are quantised, as their `config.json` says; None: they are not."""
    if source.kind is WeightsKind.GGUF:  # its values are made numbers again when it is converted
        return None
    with load_errors_explained(source):
        return json.loads((source.path / "config.json").read_text()).get("quantization_config")


def _quantisation(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """What to tell transformers to load a folder in NF4: nothing where it holds NF4 already."""
    from fettle.models.nf4 import nf4_config, refuse_what_cannot_be_quantised

    config = json.loads((folder / "config.json").read_text())
    refuse_what_cannot_be_quantised(config["model_type"], where=str(folder))
    return {} if "quantization_config" in config else {"quantization_config": nf4_config(dtype)}


def refuse_other_quantisation(source: ResolvedModel, base_weights: BaseWeights) -> None:
    """Refuse files with quantised weights, unless it is NF4 that is wanted.

    Raises:
        ModelError: They hold such.
    """
    from fettle.models.nf4 import is_nf4_config

    stored = stored_quantisation(source)
    if stored is None:
        return
    if not is_nf4_config(stored):
        raise ModelError(
            f"the files of this model hold quantised weights ({stored.get('quant_method', 'of an unknown method')})",
            where=str(source.path),
            remedy="name the model with its full weights; --method qlora quantises it to NF4 itself",
        )
    if base_weights is not BaseWeights.NF4:
        raise ModelError(
            "the files of this model hold quantised weights (NF4), which cannot be trained themselves",
            where=str(source.path),
            remedy="train an adapter beside them with --method qlora, or name the model with its full weights",
        )


def fits_machine(source: ResolvedModel, precision: Precision) -> bool:
    """Whether all of this machine's memory, free or not, would hold the model as given: always the same answer on one machine."""
    import psutil
    import torch

    dtype = torch.bfloat16 if choose_precision(precision) is Precision.FAST else torch.float32
    needed = _needed_bytes(source, dtype, BaseWeights.AS_GIVEN)
    if chosen_device().type == "cuda":
        return needed <= torch.cuda.mem_get_info()[1]
    return needed <= psutil.virtual_memory().total


def _refuse_what_does_not_fit(source: ResolvedModel, dtype: torch.dtype, base_weights: BaseWeights) -> None:
    require_memory_for(_needed_bytes(source, dtype, base_weights), source)


def require_memory_for(needed: float, source: ResolvedModel) -> None:
    """Show that what a model needs, bytes, is free here.

    Raises:
        ResourceError: It is not.
    """
    import psutil
    import torch

    if chosen_device().type == "cuda":
        free, what = torch.cuda.mem_get_info()[0], "GPU memory"
    else:
        free, what = psutil.virtual_memory().available, "memory"
    if needed > free:
        raise ResourceError(
            f"this model needs about {needed / 2**30:.1f} GiB of {what}, and {free / 2**30:.1f} GiB are free",
            where=str(source.path),
            remedy="use a smaller model, --precision fast, --method qlora, --shard on several GPUs, or a machine with more memory",
        )


def _needed_bytes(source: ResolvedModel, dtype: torch.dtype, base_weights: BaseWeights) -> float:
    """Memory for a model and what it works in. In NF4, matrices within the model take 4 bits a weight, embeddings do not."""
    folder = source.path if source.kind is WeightsKind.FOLDER else converted_folder(source)
    files = source.weight_files if source.kind is WeightsKind.FOLDER else sorted(folder.glob("*.safetensors"))
    with load_errors_explained(source):
        if base_weights is BaseWeights.AS_GIVEN:
            num_bytes = sum(math.prod(shape) for file in files for shape in _shapes(file)) * dtype.itemsize
        else:
            num_words = json.loads((folder / "config.json").read_text()).get("vocab_size")
            num_bytes = sum(
                math.prod(shape) * (_NF4_BYTES if len(shape) == 2 and num_words not in shape else dtype.itemsize)
                for file in files
                for shape in _shapes(file)
            )
    return num_bytes * WORKING_MEMORY_FACTOR


def _shapes(file: Path) -> Iterator[Sequence[int]]:
    """Of the tensors in a safetensors file, by its header alone."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as tensors:
        for name in tensors.keys():  # noqa: SIM118 (no dict)
            yield tensors.get_slice(name).get_shape()


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
    with _temporary_beside(folder) as temporary:
        write_model(model, tokenizer, temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "config.json").is_file():  # another process was not faster: a real error
                raise
    return folder
