"""A GGUF file: written tensor by tensor, and read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.errors import ModelError
from fettle.export.gguf_architecture import Hyperparameters
from fettle.export.gguf_tensors import TensorPlan, encoded
from fettle.export.gguf_vocabulary import Vocabulary
from fettle.export.settings import WeightType

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader, GGUFWriter
    from transformers import PreTrainedModel

VERSION_KEY = "fettle.version"
"""By it an export knows a file that it wrote."""
_FACTORS = "rope_freqs.weight"
_CARRIED = ("license", "license.name", "license.link", "languages", "organization", "basename", "size_label")
"""What the general keys of a base model's GGUF file say of the tuned one too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufContent:
    """All that goes into one file."""

    name: str
    fettle_version: str
    weight_type: WeightType
    hyperparameters: Hyperparameters
    vocabulary: Vocabulary
    tensors: tuple[TensorPlan, ...]
    blocks: Mapping[str, np.ndarray]
    """Of weights that were rounded together with others [O, bytes of a row], by their name in the model."""
    base: Path | None
    """GGUF file that the base model came from, whose licence and languages are carried over; None: it came from none."""

    @property
    def num_bytes(self) -> int:
        """About the size of the file."""
        words = self.vocabulary.tokens + self.vocabulary.merges
        return sum(tensor.num_bytes for tensor in self.tensors) + 16 * len(words) + sum(map(len, words))


def write_gguf(content: GgufContent, model: PreTrainedModel, path: Path, *, on_tensor: Callable[[int], None]) -> None:
    """Write a file; `on_tensor` is called with the number of tensors that are done.

    Raises:
        ModelError: A weight does not fit into the type.
        OSError: It cannot be written.
    """
    import gguf
    import numpy as np

    architecture = content.hyperparameters.architecture.name
    writer = gguf.GGUFWriter(path, architecture)
    _add_general(writer, content)
    for key, value in content.hyperparameters.values.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture}.{key}", value)  # pyright: ignore[reportArgumentType]
    _add_vocabulary(writer, content.vocabulary)
    factors = content.hyperparameters.rotary_factors
    if factors is not None:
        writer.add_tensor_info(_FACTORS, factors.shape, factors.dtype, factors.nbytes)
    for plan in content.tensors:
        shape = plan.shape
        dtype = np.dtype(
            {gguf.GGMLQuantizationType.F32: np.float32, gguf.GGMLQuantizationType.F16: np.float16}.get(
                plan.kind, np.uint8
            )
        )
        if dtype == np.uint8:
            shape = gguf.quant_shape_to_byte_shape(shape, plan.kind)
        writer.add_tensor_info(plan.name, shape, dtype, plan.num_bytes, raw_dtype=plan.kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        weights = model.state_dict()
        for number, plan in enumerate(content.tensors, start=1):
            writer.write_tensor_data(encoded(plan, weights[plan.source], content.blocks.get(plan.source)))
            on_tensor(number)
    finally:
        writer.close()


def is_our_gguf(path: Path) -> bool:
    """An earlier export wrote this file."""
    with suppress(ModelError, OSError):
        return path.is_file() and VERSION_KEY in read_gguf(path).fields
    return False


def read_gguf(path: Path) -> GGUFReader:
    """A GGUF file, its tensors mapped into memory.

    Raises:
        ModelError: It is none, or damaged.
    """
    import gguf

    try:
        return gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise ModelError(
            f"this is no GGUF file that can be read ({error})", where=str(path), remedy="name another file"
        ) from error


def read_values(reader: GGUFReader, architecture: str) -> dict[str, Any]:
    """What a file says under an architecture's prefix, by key without it."""
    prefix = f"{architecture}."
    return {
        key.removeprefix(prefix): field.contents() for key, field in reader.fields.items() if key.startswith(prefix)
    }


def read_vocabulary(reader: GGUFReader) -> Vocabulary:
    """What a file says of its tokenizer."""
    of = {key: field.contents() for key, field in reader.fields.items() if key.startswith("tokenizer.")}
    return Vocabulary(
        pre=of["tokenizer.ggml.pre"],
        tokens=tuple(of["tokenizer.ggml.tokens"]),
        token_types=tuple(of["tokenizer.ggml.token_type"]),
        merges=tuple(of["tokenizer.ggml.merges"]),
        special_ids={name: of[key] for name, key in _special_keys().items() if key in of},
        adds_bos=of["tokenizer.ggml.add_bos_token"],
        adds_eos=of["tokenizer.ggml.add_eos_token"],
        chat_template=of["tokenizer.chat_template"],
    )


def _special_keys() -> Mapping[str, str]:
    import gguf

    keys = gguf.Keys.Tokenizer
    return {
        "bos": keys.BOS_ID, "eos": keys.EOS_ID, "eot": keys.EOT_ID, "eom": keys.EOM_ID, "unk": keys.UNK_ID, "pad": keys.PAD_ID
    }  # fmt: skip


def _add_general(writer: GGUFWriter, content: GgufContent) -> None:
    import gguf

    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(content.name)
    writer.add_finetune("fettle")
    writer.add_string(VERSION_KEY, content.fettle_version)
    if content.base is not None:
        fields = read_gguf(content.base).fields
        for key in (f"general.{name}" for name in _CARRIED):
            if key in fields:
                value = fields[key].contents()
                writer.add_array(key, value) if isinstance(value, list) else writer.add_string(key, value)
    prefix = "ALL" if content.weight_type is WeightType.F32 else "MOSTLY"
    writer.add_file_type(gguf.LlamaFileType[f"{prefix}_{content.weight_type.name}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")  # llama.cpp's name for byte-level BPE of any model
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(vocabulary.token_types)
    writer.add_token_merges(list(vocabulary.merges))
    for name, key in _special_keys().items():
        if name in vocabulary.special_ids:
            writer.add_uint32(key, vocabulary.special_ids[name])
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(vocabulary.adds_eos)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(vocabulary.chat_template)
