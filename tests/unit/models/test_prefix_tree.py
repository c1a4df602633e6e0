"""The tree of shared prefixes: every row's tokens are found again on its way through it, and only what is shared is saved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fettle.models.prefix_tree import LEAST_LENGTH, LEAST_SAVED, parts_in_one_call, parts_within, prefix_tree


@st.composite
def related_rows(draw: st.DrawFn) -> list[list[int]]:
    """Rows that begin with parts of each other."""
    rows = [draw(st.lists(st.integers(0, 1), min_size=1, max_size=80))]
    for _ in range(draw(st.integers(0, 12))):
        source = draw(st.sampled_from(rows))
        kept = source[: draw(st.integers(0, len(source)))]
        rows.append([*kept, *draw(st.lists(st.integers(0, 2), min_size=1, max_size=50))])
    return draw(st.permutations(rows))


@given(rows=related_rows(), least_saved=st.sampled_from([1, 40, LEAST_SAVED]))
def test_every_row_is_its_way_through_the_tree_and_its_own_rest(rows: list[list[int]], least_saved: int) -> None:
    tree = prefix_tree(rows, least_saved=least_saved)
    pool = [token for node in tree.nodes for token in rows[node.row][node.start : node.end]]
    for row, last, shared in zip(rows, tree.node_of_row, tree.shared_lengths, strict=True):
        prefix = tree.prefix(last)
        found = [token for span in prefix.spans for token in pool[span.start : span.end]]
        assert found == row[:shared]
        assert prefix.length == shared < len(row)


@given(rows=related_rows())
def test_nodes_are_shared_and_come_after_their_parents(rows: list[list[int]]) -> None:
    tree = prefix_tree(rows, least_saved=1)
    ways = [tree.way_to(last) for last in tree.node_of_row]
    for number, node in enumerate(tree.nodes):
        members = [row for row, way in zip(rows, ways, strict=True) if number in way]
        assert len(members) == node.num_rows >= 2
        assert node.length >= LEAST_LENGTH
        parent = None if node.parent is None else tree.nodes[node.parent]
        assert node.start == (parent.end if parent else 0)
        assert node.level == (parent.level + 1 if parent else 0)
        assert node.parent is None or node.parent < number
    assert [node.level for node in tree.nodes] == sorted(node.level for node in tree.nodes)


@given(rows=related_rows())
def test_nothing_longer_could_be_shared(rows: list[list[int]]) -> None:
    tree = prefix_tree(rows, least_saved=1)
    own = [
        (last, tuple(row[shared : shared + LEAST_LENGTH]))
        for row, last, shared in zip(rows, tree.node_of_row, tree.shared_lengths, strict=True)
        if len(row) > shared + LEAST_LENGTH
    ]
    assert len(set(own)) == len(own)  # two rows that went on alike would have one node more


def test_a_level_that_saves_too_little_is_left_out() -> None:
    pair = [[*range(100), *range(500, 520), last] for last in (1, 2)]
    rows = [*pair, [*range(100), 3], [*range(100), 4]]
    assert prefix_tree(rows, least_saved=20).num_levels == 2
    tree = prefix_tree(rows, least_saved=64)  # the pair alone would save 20 tokens
    assert (tree.num_levels, tree.shared_lengths) == (1, (100, 100, 100, 100))


@given(rows=related_rows(), max_tokens=st.integers(1, 200))
def test_parts_hold_every_row_once_and_keep_their_bound(rows: list[list[int]], max_tokens: int) -> None:
    parts = parts_within(rows, max_tokens=max_tokens)
    assert sorted(index for part in parts for index in part.rows) == list(range(len(rows)))
    for part in parts:
        assert part.tree == prefix_tree([rows[index] for index in part.rows])
        assert part.tree.num_tokens - max(part.tree.shared_lengths) <= max_tokens


def test_a_long_instruction_is_shared_whatever_the_bound() -> None:
    rows = [[*range(5000), 7, number] for number in range(16)]
    assert [part.rows for part in parts_within(rows, max_tokens=100)] == [tuple(range(16))]


def test_pairs_stay_together() -> None:
    rows = [[*range(40), number // 2, *range(300), number] for number in range(12)]
    for part in parts_within(rows, max_tokens=700):
        assert len(part.rows) % 2 == 0
        assert {index // 2 for index in part.rows} == {first // 2 for first in part.rows[::2]}


@given(rows=related_rows(), max_tokens=st.integers(1, 300))
def test_each_part_is_one_call_and_no_row_is_lost(rows: list[list[int]], max_tokens: int) -> None:
    assert parts_in_one_call([], max_tokens=max_tokens) == ()
    parts = parts_in_one_call(rows, max_tokens=max_tokens)
    assert sorted(index for part in parts for index in part.rows) == list(range(len(rows)))
    for part in parts:
        alone = [len(rows[index]) - shared for index, shared in zip(part.rows, part.tree.shared_lengths, strict=True)]
        assert len(part.rows) == 1 or part.tree.num_tokens + sum(alone) <= max_tokens
