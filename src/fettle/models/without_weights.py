"""A base model without its weights: its tokenizer, template and settings, for engines that hold the weights elsewhere."""

from __future__ import annotations

from fettle.chat.renderer import ChatRenderer
from fettle.models.load import LoadedModel, converted_folder, load_errors_explained, load_tokenizer
from fettle.models.precision import Precision
from fettle.models.resolve import ResolvedModel, WeightsKind


def load_without_weights(source: ResolvedModel) -> LoadedModel:
    """A model whose weights have shapes and take no memory: it cannot be run.

    Raises:
        ModelError: The files are damaged, or of a class that transformers does not know.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    tokenizer = load_tokenizer(source)
    folder = source.path if source.kind is WeightsKind.FOLDER else converted_folder(source)
    with load_errors_explained(source), torch.device("meta"):
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        if (folder / "generation_config.json").is_file():  # it may name more tokens that end an answer
            model.generation_config = GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    return LoadedModel(source=source, model=model, renderer=ChatRenderer(tokenizer), precision=Precision.EXACT)
