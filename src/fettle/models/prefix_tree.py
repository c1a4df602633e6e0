"""Which leading tokens of some rows are the same, so that each stretch of them is computed once: a tree of prefixes.

Pure index arithmetic. All rows of a task begin with one instruction; conversations that go on from each other, the two answers of
a preference pair and the samples of one prompt share more. A node is a stretch that several rows have in common after the stretches
above it. Nodes of one level do not need each other, so they are run together, level after level; what a row has alone comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fettle.models.packing import Prefix, Span

LEAST_LENGTH = 16
"""Shorter stretches are left to each of those that share them: a level of its own would cost more."""
LEAST_SAVED = 64
"""A level of the tree must save so many tokens: running it costs about as much as they do."""


@dataclass(frozen=True, slots=True)
class Node:
    """Tokens `start` to `end` of `row`, which stand in some other rows as well, after the same tokens."""

    row: int
    """One of the rows that hold them."""
    start: int
    end: int
    parent: int | None
    """The node that ends at `start`; None: there is nothing before this one."""
    level: int
    num_rows: int

    @property
    def length(self) -> int:
        """Tokens."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """What some rows share. The nodes' tokens lie end to end, in order, in the pool of computed keys and values."""

    nodes: tuple[Node, ...]
    """Level by level, so parents first."""
    node_of_row: tuple[int | None, ...]
    """The last node on each row's way; None: the row shares nothing."""

    @property
    def num_levels(self) -> int:
        """Calls that the nodes take."""
        return self.nodes[-1].level + 1 if self.nodes else 0

    def level(self, number: int) -> tuple[int, ...]:
        """The nodes of a level."""
        return tuple(index for index, node in enumerate(self.nodes) if node.level == number)

    @property
    def shared_lengths(self) -> tuple[int, ...]:
        """Leading tokens of each row that are in nodes."""
        return tuple(0 if node is None else self.nodes[node].end for node in self.node_of_row)

    def way_to(self, node: int | None) -> tuple[int, ...]:
        """The nodes from the first token up to and with this one."""
        way: list[int] = []
        while node is not None:
            way.append(node)
            node = self.nodes[node].parent
        return tuple(reversed(way))

    @property
    def num_tokens(self) -> int:
        """Of all nodes."""
        return sum(node.length for node in self.nodes)

    def prefix(self, node: int | None) -> Prefix:
        """Where the tokens from the first one to the end of this node lie in the pool."""
        places = [0]
        for each in self.nodes:
            places.append(places[-1] + each.length)
        return Prefix.joined(Span(places[index], places[index + 1]) for index in self.way_to(node))


def prefix_tree(rows: Sequence[Sequence[int]], *, least_saved: int = LEAST_SAVED) -> PrefixTree:
    """The stretches that several rows begin with. At least one token of each row stays its own.

    Args:
        rows: Token ids, none empty.
        least_saved: Tokens that a level must save to be worth its call.

    >>> tree = prefix_tree([range(100), range(100), [*range(64), 7, 7]], least_saved=16)
    >>> [(node.start, node.end, node.num_rows) for node in tree.nodes], tree.shared_lengths
    ([(0, 64, 3), (64, 99, 2)], (99, 99, 64))
    """
    ordered, common = _in_order(rows)
    found = sorted(_stretches(ordered, common, 0, None), key=lambda stretch: stretch.level)
    depth = _worthwhile_levels(found, least_saved)
    kept = [stretch for stretch in found if stretch.level < depth]
    numbers = {id(stretch): number for number, stretch in enumerate(kept)}
    node_of_row: list[int | None] = [None] * len(rows)
    nodes = []
    for number, stretch in enumerate(kept):
        parent = None if stretch.parent is None else numbers[id(stretch.parent)]
        row = stretch.rows[0]
        nodes.append(Node(row, stretch.start, stretch.end, parent, stretch.level, len(stretch.rows)))
        for member in stretch.rows:
            node_of_row[member] = number
    return PrefixTree(tuple(nodes), tuple(node_of_row))


@dataclass(frozen=True, slots=True)
class Part:
    """Some of many rows, and what these share."""

    rows: tuple[int, ...]
    """Which ones, by their index."""
    tree: PrefixTree
    """Of these, in this order."""

    @property
    def num_kept_tokens(self) -> int:
        """Tokens of the tree besides its longest way."""
        return self.tree.num_tokens - max(self.tree.shared_lengths, default=0)


def parts_within(rows: Sequence[Sequence[int]], *, max_tokens: int) -> tuple[Part, ...]:
    """The rows in parts whose trees hold at most `max_tokens` tokens besides their longest way.

    What a tree computes once is kept until all that comes after it is done, so a batch of many long pairs would keep them all. Rows
    that share most stay together; what all parts begin with is computed once for each of them.

    >>> pairs = [[*range(100), number // 2, *range(200), number] for number in range(8)]
    >>> [part.rows for part in parts_within(pairs, max_tokens=250)]
    [(0, 1, 2, 3), (4, 5, 6, 7)]
    """
    return tuple(_parts(rows, *_in_order(rows), lambda part: part.num_kept_tokens <= max_tokens))


def parts_in_one_call(rows: Sequence[Sequence[int]], *, max_tokens: int) -> tuple[Part, ...]:
    """The same, so that each part holds at most `max_tokens` tokens to compute, or is a single row; none for no rows.

    >>> pairs = [[*range(100), number // 2, *range(200), number] for number in range(8)]
    >>> [part.rows for part in parts_in_one_call(pairs, max_tokens=800)]
    [(0, 1, 2, 3), (4, 5, 6, 7)]
    """
    if not rows:
        return ()

    def fits(part: Part) -> bool:
        num_alone = sum(len(rows[index]) for index in part.rows) - sum(part.tree.shared_lengths)
        return len(part.rows) == 1 or part.tree.num_tokens + num_alone <= max_tokens

    return tuple(_parts(rows, *_in_order(rows), fits))


def _in_order(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """The rows by their tokens, as indices, and how many tokens each shares with the next."""
    ordered = sorted(range(len(rows)), key=lambda index: tuple(rows[index]))
    return ordered, [common_length(rows[left], rows[right]) for left, right in pairwise(ordered)]


def _parts(
    rows: Sequence[Sequence[int]], ordered: Sequence[int], common: Sequence[int], fits: Callable[[Part], bool]
) -> Iterator[Part]:
    part = Part(tuple(ordered), prefix_tree([rows[index] for index in ordered]))
    if fits(part):
        yield part
        return
    middle = len(common) / 2
    place = min(range(len(common)), key=lambda place: (common[place], abs(place + 0.5 - middle)))
    yield from _parts(rows, ordered[: place + 1], common[:place], fits)
    yield from _parts(rows, ordered[place + 1 :], common[place + 1 :], fits)


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    rows: Sequence[int]
    start: int
    end: int
    parent: _Stretch | None

    @property
    def level(self) -> int:
        return 0 if self.parent is None else self.parent.level + 1

    @property
    def num_saved(self) -> int:
        return (self.end - self.start) * (len(self.rows) - 1)


def _stretches(
    ordered: Sequence[int], common: Sequence[int], start: int, parent: _Stretch | None
) -> Iterator[_Stretch]:
    """What neighbouring rows share beyond their first `start` tokens; `common` is what each has with the next."""
    if not common:
        return
    least = min(common)
    here = parent
    if least - start >= LEAST_LENGTH:
        here, start = _Stretch(ordered, start, least, parent), least
        yield here
    first = 0
    for place in [*(place for place, length in enumerate(common) if length == least), len(common)]:
        yield from _stretches(ordered[first : place + 1], common[first:place], start, here)
        first = place + 1


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """Leading tokens that two rows share, one of each being left over."""
    length, most = 0, min(len(left), len(right)) - 1
    while length < most and left[length] == right[length]:
        length += 1
    return length


def _worthwhile_levels(stretches: Sequence[_Stretch], least_saved: int) -> int:
    """How many levels are run, the deepest ones being left out while they save too little."""
    saved: dict[int, int] = {}
    for stretch in stretches:
        saved[stretch.level] = saved.get(stretch.level, 0) + stretch.num_saved
    return max((level + 1 for level, tokens in saved.items() if tokens >= least_saved), default=0)
