"""How alike two texts are, in [0, 1]; the same text twice is 1, two empty ones too.

Words are runs of letters and digits without regard to case, but for BLEU and GLEU, which look at case and punctuation.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING

from fettle.scoring.graders.text import rouge_l

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

_WORD = re.compile(r"[^\W_]+")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_GLEU_ORDERS = range(1, 5)
_METEOR_RECALL_WEIGHT = 9
_METEOR_PENALTY = 0.5

Metric = Callable[[str, str], float]
"""(text, reference) to likeness."""


def fuzzy_match(text: str, reference: str) -> float:
    """Share of characters that need not be inserted or deleted: rapidfuzz's `ratio`.

    >>> fuzzy_match("abcd", "abxd")
    0.75
    """
    from rapidfuzz import fuzz

    return fuzz.ratio(text, reference) / 100


def bleu(text: str, reference: str) -> float:
    """Sentence BLEU of sacrebleu: orders up to 4 as far as the text reaches, exponential smoothing, its tokenizer `13a`."""
    if text.split() == reference.split():
        return 1.0
    return min(1.0, max(0.0, _bleu().sentence_score(text, [reference]).score / 100))


def gleu(text: str, reference: str) -> float:
    """The smaller of precision and recall of all n-grams, n = 1 to 4.

    Source: Wu et al. 2016, "Google's Neural Machine Translation System", section 6.1.

    >>> gleu("the cat sat", "the cat")   # 3 of 6 n-grams of the text, 3 of 3 of the reference
    0.5
    """
    if text.split() == reference.split():
        return 1.0
    grams, wanted = (
        Counter(gram for n in _GLEU_ORDERS for gram in _grams(_TOKEN.findall(side), n)) for side in (text, reference)
    )
    return (grams & wanted).total() / max(1, grams.total(), wanted.total())


def rouge_n(text: str, reference: str, *, n: int) -> float:
    """F1 of word n-grams; 0 where a text has fewer than `n` words and the texts differ.

    Source: Lin 2004, "ROUGE"; rouge-score's `rougeN` without stemming, on English text.

    >>> rouge_n("the cat sat down", "the cat sat up", n=2)   # 2 of 3 each way
    0.6666666666666666
    """
    words, wanted_words = _words(text), _words(reference)
    if words == wanted_words and (words or text.split() == reference.split()):
        return 1.0
    grams, wanted = Counter(_grams(words, n)), Counter(_grams(wanted_words, n))
    return 2 * (grams & wanted).total() / max(1, grams.total() + wanted.total())


def meteor(text: str, reference: str) -> float:
    """METEOR with two modules, equal words and equal stems (Porter's, English); WordNet's synonyms are not looked at.

    `10 P R / (R + 9 P)` of the matched words, less up to half where they stand in another order: `0.5 (chunks / matches)^3`. As in
    the authors' program, a text that matches from end to end pays no penalty. Words are aligned from the end, as NLTK does it.

    Source: Banerjee & Lavie 2005, "METEOR", section 2.

    >>> meteor("the cats sat", "the cat sat"), meteor("sat the cat", "the cat sat")
    (1.0, 0.8518518518518519)
    """
    words, wanted = _words(text), _words(reference)
    if not words or not wanted:
        return float(words == wanted and text.split() == reference.split())
    matches = _aligned(words, wanted)
    if not matches:
        return 0.0
    num_chunks = 1 + sum((b[0] - a[0], b[1] - a[1]) != (1, 1) for a, b in pairwise(matches))
    if num_chunks == 1 and len(matches) == len(words) == len(wanted):
        return 1.0
    precision, recall = len(matches) / len(words), len(matches) / len(wanted)
    weighted = (1 + _METEOR_RECALL_WEIGHT) * precision * recall / (recall + _METEOR_RECALL_WEIGHT * precision)
    return weighted * (1 - _METEOR_PENALTY * (num_chunks / len(matches)) ** 3)


METRICS: Mapping[str, Metric] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    **{f"rouge_{n}": partial(rouge_n, n=n) for n in range(1, 6)},
    "rouge_l": lambda text, reference: rouge_l(reference, text),
}
"""All of them by the API's names."""


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def _aligned(words: list[str], wanted: list[str]) -> list[tuple[int, int]]:
    """Positions (in the text, in the reference) of matched words, in the order of the text: equal ones first, then stems."""
    matches: list[tuple[int, int]] = []
    free, free_wanted = list(range(len(words))), list(range(len(wanted)))
    for form in (lambda word: word, _stem):
        places: dict[str, list[int]] = defaultdict(list)
        for place in free_wanted:
            places[form(wanted[place])].append(place)
        found = [(place, places[key].pop()) for place in reversed(free) if places.get(key := form(words[place]))]
        matches += found
        taken, taken_wanted = {place for place, _ in found}, {place for _, place in found}
        free = [place for place in free if place not in taken]
        free_wanted = [place for place in free_wanted if place not in taken_wanted]
    return sorted(matches)


@lru_cache(maxsize=10_000)
def _stem(word: str) -> str:
    import snowballstemmer

    return snowballstemmer.stemmer("porter").stemWord(word)


@lru_cache(maxsize=1)
def _bleu() -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True)
