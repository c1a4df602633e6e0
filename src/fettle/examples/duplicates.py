"""Which examples ask the same thing: word for word, or nearly so.

Two inputs are *exact* duplicates when they are equal without case, white space and punctuation. They are *near*-duplicates when,
without opening and closing courtesies ("Hi team", "Thanks"), the Jaccard similarity of their character trigrams is at least
`NEAR_DUPLICATE_SIMILARITY`. MinHash finds the candidates and the similarity is then computed exactly, so nothing here is random.
Where one text holds another one whole, as a reply holds the mail that it answers, the two may be far from alike: that is *quoting*.

The threshold was measured: at 0.72 all 18 lightly reworded copies planted in a split of BANKING77 are found, with 4 matches that
nobody planted, all of them rewordings; at 0.65 chains of similar questions join 30 % of a set of templated support messages into
one cluster, at 0.8 two of the 18 are missed.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from fettle.records import Example

NEAR_DUPLICATE_SIMILARITY = 0.72
"""Jaccard similarity of character trigrams, in [0, 1]."""
_SHINGLE_CHARACTERS = 3
_NUM_PERMUTATIONS = 125
_NUM_BANDS, _ROWS_PER_BAND = 25, 5  # finds 99.5 % of pairs exactly at the threshold, practically all above it
_MAX_COURTESIES = 3
_FEWEST_WORDS_TOLD = 3
_FEWEST_WORDS_QUOTED = 8
_MOST_TELLERS, _MOST_TELLERS_SHARE = 20, 0.05
_COURTESY = re.compile(
    r"^(?:hi|hello|hey|dear|good (?:morning|afternoon|evening))(?: (?:there|team|all|support|sir|madam))*\b"
    r"|\b(?:(?:many |kind |best |warm )?(?:thanks|thank you|regards|cheers)(?: in advance| so much| very much| a lot)?"
    r"|please|sent from my phone)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicatePair:
    """Two examples with the same input, or nearly."""

    first: Example
    second: Example
    similarity: float
    """In [`NEAR_DUPLICATE_SIMILARITY`, 1]."""
    is_exact: bool


def comparable_text(example: Example) -> str:
    """What is compared: all that is asked, as plain words; of the system message its context, or all if there is nothing else."""
    asked = [message.content for message in example.prompt if not message.is_system]
    text = "\n".join(asked or (message.content for message in example.prompt))
    text = f"{example.context}\n{text}" if example.context and asked else text
    return plain_words(text) or text.strip().casefold()


def plain_words(text: str) -> str:
    """The words of a text, lower case, one space between them; `C#` is a word, and another one than `C`.

    >>> plain_words("Where's my CARD?! #7"), plain_words("C#, or C++?")
    ('where s my card 7', 'c# or c++')
    """
    return " ".join(
        re.sub(r"(?:[^\w+#]|_|(?<![\w+#])[+#])+", " ", unicodedata.normalize("NFKC", text).casefold()).split()
    )


def plain_label(text: str) -> str:
    """A label without what is a matter of spelling: case, spaces, underscores, hyphens between letters, marks at its end.

    Signs that may be the whole difference stay: `-1` is not `1`, and `C#` is not `C++`.

    >>> plain_label(" Late_Parcel. "), plain_label("late-parcel"), plain_label("-1"), plain_label("A+")
    ('late parcel', 'late parcel', '-1', 'a+')
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    spaced = re.sub(r"(?<=\w)-(?=\w)|[\s_]+", " ", folded).strip(" .,;:'\"`")
    return " ".join(spaced.split()) or folded.strip()


def likeness(first: str, second: str) -> float:
    """How alike two questions are, in [0, 1], by the measure that finds near-duplicates; 1 where they are the same.

    Args:
        first: As `comparable_text` makes it of an example.
        second: Likewise.

    >>> likeness("where is my parcel", "hi team where is my parcel"), likeness("where is my parcel", "i was charged twice") < 0.1
    (1.0, True)
    """
    return 1.0 if first == second else _jaccard(_kept_shingles(first), _kept_shingles(second))


def find_duplicates(examples: Sequence[Example]) -> tuple[DuplicatePair, ...]:
    """For every example that repeats an earlier one: the pair of both, with the most similar earlier one as `first`."""
    best: dict[int, DuplicatePair] = {}
    for first, second, similarity, is_exact in _pairs(examples):
        known = best.get(second)
        if known is None or (is_exact, similarity) > (known.is_exact, known.similarity):
            best[second] = DuplicatePair(
                first=examples[first], second=examples[second], similarity=similarity, is_exact=is_exact
            )
    return tuple(best[index] for index in sorted(best))


def find_leaks(train: Sequence[Example], test: Sequence[Example]) -> tuple[DuplicatePair, ...]:
    """Every pair of a training example (`first`) with a held-out one (`second`) that ask the same, or nearly."""
    together = [*train, *test]
    return tuple(
        DuplicatePair(first=together[first], second=together[second], similarity=similarity, is_exact=is_exact)
        for first, second, similarity, is_exact in sorted(_pairs(together, boundary=len(train)))
    )


def find_told(train: Sequence[Example], held_out: Sequence[Example]) -> tuple[tuple[Example, Example], ...]:
    """Every pair of a training example with a held-out one whose question and answer are an earlier turn of the first.

    So it is where conversations are written down turn by turn, each row with all that came before.
    """
    together = [*train, *held_out]
    crossing = sorted((teller, told) for told, teller in _told(together) if teller < len(train) <= told)
    return tuple((together[teller], together[told]) for teller, told in crossing)


def find_quoted(train: Sequence[Example], held_out: Sequence[Example]) -> tuple[tuple[Example, Example], ...]:
    """Every pair of a training example with a held-out one whose whole question stands word for word within that of the first."""
    together = [*train, *held_out]
    crossing = sorted((teller, quoted) for quoted, teller in _quoted(together) if teller < len(train) <= quoted)
    return tuple((together[teller], together[quoted]) for teller, quoted in crossing)


def find_shared_groups(examples: Sequence[Example], others: Sequence[Example]) -> tuple[tuple[Example, Example], ...]:
    """Every example that has the group of one in `others`, with the first such one."""
    first_of_group = {other.group: other for other in reversed(others) if other.group is not None}
    return tuple((example, first_of_group[example.group]) for example in examples if example.group in first_of_group)


def cluster_by_id(examples: Sequence[Example]) -> dict[str, int]:
    """The cluster of each example, by its id: duplicates, near-duplicates, examples of one group, those that quote each other, and
    conversations that go on from each other are joined, through chains too.

    Clusters are numbered in the order of their first example; which examples share one does not depend on the order.
    """
    import numpy
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not examples:
        return {}
    edges = [(first, second) for first, second, _, _ in _pairs(examples)] + [*_told(examples), *_quoted(examples)]
    indices_by_group: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        if example.group is not None:
            indices_by_group[example.group].append(index)
    edges += [edge for indices in indices_by_group.values() for edge in pairwise(indices)]
    ends = numpy.array(edges, dtype=int).reshape(-1, 2).T
    graph = coo_array((numpy.ones(len(edges), dtype=bool), (ends[0], ends[1])), shape=(len(examples), len(examples)))
    _, components = connected_components(graph, directed=False)
    number_by_component: dict[int, int] = {}
    return {
        example.id: number_by_component.setdefault(int(component), len(number_by_component))
        for example, component in zip(examples, components, strict=True)
    }


def _told(examples: Sequence[Example]) -> Iterator[tuple[int, int]]:
    """(index of an example, index of another one that holds its question and answer as an earlier turn).

    What very many conversations begin with, such as a greeting, tells nothing.
    """
    tellers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        for exchange in dict.fromkeys(_exchanges(example)[:-1]):
            tellers[exchange].append(index)
    most = _most_tellers(len(examples))
    for index, example in enumerate(examples):
        question, answer = _exchanges(example)[-1]
        found = [teller for teller in tellers.get((question, answer), ()) if teller != index]
        if answer and len(question.split()) >= _FEWEST_WORDS_TOLD and len(found) <= most:
            yield from ((index, teller) for teller in found)


def _quoted(examples: Sequence[Example]) -> Iterator[tuple[int, int]]:
    """(index of an example, index of another one whose question holds that of the first word for word, and more).

    Short questions stand in many texts by chance, and what very many texts begin with or hold is a form: neither tells anything.
    """
    size, most = _FEWEST_WORDS_QUOTED, _most_tellers(len(examples))
    asked = [comparable_text(example).split() for example in examples]
    by_start: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, words in enumerate(asked):
        if len(words) >= size:
            by_start[tuple(words[:size])].append(index)
    quoting: dict[int, set[int]] = defaultdict(set)
    for index, words in enumerate(asked):
        for start in range(len(words) - size + 1):
            candidates = by_start.get(tuple(words[start : start + size]), ())
            for other in candidates if len(candidates) <= most else ():
                length = len(asked[other])
                if length < len(words) and words[start : start + length] == asked[other]:
                    quoting[other].add(index)
    for quoted, tellers in quoting.items():
        if len(tellers) <= most:
            yield from ((quoted, teller) for teller in sorted(tellers))


def _most_tellers(num_examples: int) -> int:
    return max(_MOST_TELLERS, int(_MOST_TELLERS_SHARE * num_examples))


def _exchanges(example: Example) -> list[tuple[str, str]]:
    """What was said since the assistant last spoke, and what it answered, as plain words, turn by turn."""
    exchanges, said = [], []
    for message in example.messages:
        if message.role == "assistant":
            exchanges.append((plain_words("\n".join(said)), plain_words(message.content)))
            said = []
        elif not message.is_system:
            said.append(message.content)
    return exchanges


def _pairs(examples: Sequence[Example], *, boundary: int | None = None) -> Iterator[tuple[int, int, float, bool]]:
    """(earlier index, later index, similarity, is exact) of similar pairs.

    Args:
        examples: What to compare.
        boundary: All pairs with one index below it and the other not; None: of examples with equal texts only the pairs with the
            first, which is enough to find each and to cluster them.
    """
    indices_by_text: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        indices_by_text[comparable_text(example)].append(index)
    for indices in indices_by_text.values():
        for first, second in _links(indices, indices, boundary):
            yield first, second, 1.0, True
    texts = sorted(indices_by_text)
    for left, right, similarity in _similar_texts(texts):
        for first, second in _links(indices_by_text[texts[left]], indices_by_text[texts[right]], boundary):
            yield first, second, similarity, False


def _links(ours: list[int], theirs: list[int], boundary: int | None) -> Iterator[tuple[int, int]]:
    """Pairs, lower index first: all across the boundary; without one, enough to connect everything with the first."""
    if boundary is not None:
        crossing = (sorted((index, other)) for index in ours for other in theirs)
        yield from {(first, second) for first, second in crossing if first < boundary <= second}
    elif ours is theirs:
        yield from ((ours[0], index) for index in ours[1:])
    else:
        yield min(ours[0], theirs[0]), max(ours[0], theirs[0])


def _similar_texts(texts: list[str]) -> Iterator[tuple[int, int, float]]:
    """(index, index, similarity) of different texts that are near-duplicates."""
    from datasketch import MinHash, MinHashLSH

    shingles = [_shingles(_without_courtesies(text)) for text in texts]
    index = MinHashLSH(params=(_NUM_BANDS, _ROWS_PER_BAND), num_perm=_NUM_PERMUTATIONS)
    hashes = MinHash.generator(
        ([shingle.encode() for shingle in sorted(item)] for item in shingles),
        num_perm=_NUM_PERMUTATIONS,
        seed=1,
        hashfunc=zlib.crc32,
    )
    for right, minhash in enumerate(hashes):
        for left in sorted(key for key in index.query(minhash) if isinstance(key, int)):
            similarity = _jaccard(shingles[left], shingles[right])
            if similarity >= NEAR_DUPLICATE_SIMILARITY:
                yield left, right, similarity
        index.insert(right, minhash, check_duplication=False)


def _without_courtesies(text: str) -> str:
    for _ in range(_MAX_COURTESIES):
        shorter = _COURTESY.sub("", text).strip()
        if not shorter:
            break
        text = shorter
    return text


def _shingles(text: str) -> frozenset[str]:
    padded = f" {text} "
    starts: Iterable[int] = range(max(1, len(padded) - _SHINGLE_CHARACTERS + 1))
    return frozenset(padded[start : start + _SHINGLE_CHARACTERS] for start in starts)


@lru_cache(maxsize=4096)
def _kept_shingles(text: str) -> frozenset[str]:
    return _shingles(_without_courtesies(text))


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    num_shared = len(left & right)
    return num_shared / (len(left) + len(right) - num_shared)
