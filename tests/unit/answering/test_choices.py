from __future__ import annotations

import math

import pytest
import torch

from fettle.answering.choices import build_choice_tree, choice_log_likelihoods, greedy_choice
from fettle.errors import ConfigError

STOP = 0
SPELLINGS = [(5, 6, STOP), (5, STOP), (7, 8, 9, STOP)]


def test_choices_that_begin_alike_share_their_nodes() -> None:
    tree = build_choice_tree(SPELLINGS)
    spelled = [tuple(tree.token_ids[node] for node in path) for path in tree.paths]
    assert spelled == SPELLINGS
    assert tree.paths[0][0] == tree.paths[1][0]
    assert len(tree.token_ids) == 1 + 8  # the root, and 9 tokens of which two are one
    assert [tree.depths[node] for node in tree.paths[2]] == [1, 2, 3, 4]
    assert all(tree.parents[child] == node for node, below in enumerate(tree.children) for child in below)


def test_the_model_is_run_where_something_is_to_be_chosen_now_or_later() -> None:
    tree = build_choice_tree(SPELLINGS)
    assert tree.nodes_to_run == (tree.paths[0][0],)  # after 5 comes 6 or the end; after 7 all is certain
    later = build_choice_tree([(5, 6, 7, STOP), (5, 6, 8, STOP)])
    assert later.nodes_to_run == later.paths[0][:2]
    assert build_choice_tree([(4, 5, STOP), (6, 5, STOP)]).nodes_to_run == ()


def test_likelihoods_are_sums_along_the_path_and_greedy_may_disagree() -> None:
    tree = build_choice_tree(SPELLINGS)
    # P(5) = 0.6, then 6 and stop at one half each: 0.3 for either. P(7) = 0.4 and certain from there on: 0.4.
    probability = {tree.paths[0][0]: 0.6, tree.paths[0][1]: 0.5, tree.paths[1][1]: 0.5, tree.paths[2][0]: 0.4}
    edges = torch.tensor([math.log(probability.get(node, 1.0)) for node in range(len(tree.token_ids))])
    assert [math.exp(value) for value in choice_log_likelihoods(tree, edges)] == pytest.approx([0.3, 0.3, 0.4])
    assert greedy_choice(tree, edges) in (0, 1)  # it follows the likelier first token to a less likely choice


def test_a_single_choice_is_chosen() -> None:
    tree = build_choice_tree([(4, STOP)])
    assert greedy_choice(tree, torch.tensor([0.0, -50.0, -50.0])) == 0


def test_choices_spelled_alike_are_refused() -> None:
    with pytest.raises(ConfigError, match="same tokens"):
        build_choice_tree([(5, STOP), (6, STOP), (5, STOP)])
