"""A byte-level BPE tokenizer in llama.cpp's words, and back again to see that nothing was lost.

llama.cpp cuts text into words by rules that it knows by name. The name is found by what the tokenizer does, not by what the model
is called. It normalises nothing: text that is not in Unicode's form NFC is tokenised as it stands, where Qwen's tokenizer composes
it first. That holds for every GGUF file of these models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fettle.chat.renderer import ChatRenderer
from fettle.errors import ModelError
from fettle.export.gguf_architecture import CONVERT_REMEDY

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""`gguf.TokenType`."""

_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_WORDS = _LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Words:
    """A way of cutting text into words."""

    pieces: tuple[Mapping[str, Any], ...]
    """Of `tokenizer.json`, what matters of them."""
    ignores_merges: bool
    """A word that is a token is taken as it is."""


def _split(words: str) -> Mapping[str, Any]:
    return {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": False}


_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
_GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
WORDS: Mapping[str, Words] = {
    "gpt-2": Words((_GPT2,), ignores_merges=False),
    "smollm": Words(({"type": "Digits", "individual_digits": True}, _GPT2), ignores_merges=False),
    "qwen2": Words((_split(_QWEN2_WORDS), _BYTES), ignores_merges=False),
    "llama-bpe": Words((_split(_LLAMA3_WORDS), _BYTES), ignores_merges=True),
    "tekken": Words((_split(_TEKKEN_WORDS), _BYTES), ignores_merges=True),
}
"""By llama.cpp's name, `tokenizer.ggml.pre`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer."""

    pre: str
    tokens: tuple[str, ...]
    """One for each row of the embedding."""
    token_types: tuple[int, ...]
    merges: tuple[str, ...]
    special_ids: Mapping[str, int]
    """By the name that `GGUFWriter.add_NAME_token_id` has."""
    adds_bos: bool
    adds_eos: bool
    chat_template: str


def vocabulary(renderer: ChatRenderer, *, num_rows: int, stop_token_ids: frozenset[int]) -> Vocabulary:
    """The tokenizer of a model.

    Args:
        renderer: Has it, and its chat template.
        num_rows: Of the embedding, which may be longer than the tokenizer.
        stop_token_ids: What ends an answer.

    Raises:
        ModelError: It is of another kind than byte-level BPE, or does what llama.cpp does not.
    """
    tokenizer: Any = renderer.tokenizer
    if not tokenizer.is_fast:
        raise _cannot("its tokenizer has no tokenizer.json")
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    pre = _pre(content)
    _refuse_other_normalisers(content["normalizer"])
    added = {int(number): token for number, token in tokenizer.added_tokens_decoder.items()}
    for token in added.values():
        if token.lstrip or token.rstrip or token.single_word:
            raise _cannot(f"its token {token.content!r} takes the space around it along, which llama.cpp does not")
    text_of = {number: text for text, number in tokenizer.get_vocab().items()}
    if max(text_of) >= num_rows:
        raise _cannot(f"its tokenizer has {max(text_of) + 1} tokens, and its embedding has {num_rows} rows")
    tokens = tuple(text_of.get(number, f"[PAD{number}]") for number in range(num_rows))
    types = tuple(_token_type(number, text_of, added) for number in range(num_rows))
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    plain = tokenizer("a", add_special_tokens=True)["input_ids"]
    return Vocabulary(
        pre=pre,
        tokens=tokens,
        token_types=types,
        merges=tuple(_merge(pair) for pair in content["model"]["merges"]),
        special_ids=_special_ids(tokenizer, renderer.end_of_turn_id, stop_token_ids),
        adds_bos=bos is not None and plain[0] == bos,
        adds_eos=eos is not None and plain[-1] == eos,
        chat_template=str(tokenizer.chat_template),
    )


def rebuilt(vocabulary: Vocabulary) -> Any:
    """A tokenizer made of nothing but what the GGUF file says: what llama.cpp makes of text.

    `encode(text, add_special_tokens=False).ids` are the tokens, markers in the text taken for what they mean.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    words = WORDS[vocabulary.pre]
    typed = list(zip(vocabulary.tokens, vocabulary.token_types, strict=True))
    numbered = {token: number for number, (token, kind) in enumerate(typed) if kind != UNUSED}
    merges = [tuple(merge.split(" ")) for merge in vocabulary.merges]
    tokenizer = Tokenizer(models.BPE(vocab=numbered, merges=merges, ignore_merges=words.ignores_merges))  # pyright: ignore[reportArgumentType]
    pieces = [json.dumps(piece) for piece in words.pieces]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_piece(json.loads(piece)) for piece in pieces])
    for kind, is_special in ((CONTROL, True), (USER_DEFINED, False)):
        texts = [token for token, own in typed if own == kind]
        added = [AddedToken(text, normalized=False, special=is_special) for text in texts]
        tokenizer.add_special_tokens(added) if is_special else tokenizer.add_tokens(added)
    return tokenizer


def _piece(piece: Mapping[str, Any]) -> Any:
    from tokenizers import Regex, pre_tokenizers

    match piece["type"]:
        case "Split":
            return pre_tokenizers.Split(Regex(piece["pattern"]["Regex"]), behavior="isolated")
        case "Digits":
            return pre_tokenizers.Digits(individual_digits=True)
        case _:
            return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=piece["use_regex"])


def _pre(content: Mapping[str, Any]) -> str:
    """llama.cpp's name for the way in which a `tokenizer.json` cuts text into words."""
    model, pre = content["model"], content["pre_tokenizer"]
    if model["type"] != "BPE" or pre is None or model.get("byte_fallback"):
        raise _cannot(
            f"its tokenizer is of the kind {model['type']} without bytes, and only byte-level BPE can be written"
        )
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix") or model.get("dropout"):
        raise _cannot("its tokenizer marks the parts of a word")
    pieces = pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]
    ignores_merges = bool(model.get("ignore_merges"))
    for name, words in WORDS.items():
        if ignores_merges is words.ignores_merges and len(pieces) == len(words.pieces):
            pairs = zip(pieces, words.pieces, strict=True)
            if all(all(piece.get(key) == value for key, value in known.items()) for piece, known in pairs):
                return name
    raise _cannot(f"its tokenizer cuts text into words in another way than {', '.join(WORDS)}")


def _refuse_other_normalisers(normalizer: Mapping[str, Any] | None) -> None:
    if normalizer is None or normalizer["type"] == "NFC":
        return
    if normalizer["type"] == "Sequence" and not normalizer["normalizers"]:
        return
    raise _cannot(f"its tokenizer changes text before it cuts it ({normalizer['type']})")


def _token_type(number: int, text_of: Mapping[int, str], added: Mapping[int, Any]) -> int:
    if number not in text_of:
        return UNUSED
    if number not in added:
        return NORMAL
    return CONTROL if added[number].special else USER_DEFINED


def _merge(pair: Any) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)


def _special_ids(tokenizer: Any, end_of_turn_id: int, stop_token_ids: frozenset[int]) -> dict[str, int]:
    """llama.cpp stops at its ids of end of text, turn and message."""
    found = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id if tokenizer.eos_token_id is not None else end_of_turn_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    rest = [number for number in (end_of_turn_id, *sorted(stop_token_ids)) if number != found["eos"]]
    found |= dict(zip(("eot", "eom"), dict.fromkeys(rest), strict=False))
    if len(set(rest)) > 2:
        raise _cannot(f"{len(set(rest)) + 1} tokens end its answers, and llama.cpp has room for three")
    return {name: int(number) for name, number in found.items() if number is not None}


def _cannot(problem: str) -> ModelError:
    return ModelError(f"it cannot be written as GGUF: {problem}", where="--format gguf", remedy=CONVERT_REMEDY)
