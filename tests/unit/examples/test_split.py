import random
from collections import Counter
from dataclasses import replace

import pytest
from example_builders import example, examples, labelled

from fettle.errors import ConfigError, DataError
from fettle.examples.split import SplitSizes, describe_split, given_split, split_examples
from fettle.examples.task import recognise_task
from fettle.records import Action, Severity, Split, Task, TaskKind

TEXT = Task(kind=TaskKind.TEXT, reason="")


def ids(split: Split) -> tuple[list[str], list[str], list[str]]:
    return tuple([item.id for item in part] for part in (split.train, split.valid, split.test))  # pyright: ignore


def test_parts_are_disjoint_complete_and_of_the_default_sizes():
    rows = labelled(40)
    split = split_examples(rows, recognise_task(rows), seed=1)
    train, valid, test = ids(split)
    assert sorted(train + valid + test) == sorted(item.id for item in rows)
    assert abs(len(valid) - 18) <= 2
    assert abs(len(test) - 30) <= 2
    assert f"{len(train)} training" in describe_split(split)


def test_labels_are_stratified_and_rare_ones_are_taught():
    rows = (*labelled(40), example("a lonely question about zebras", "rare", line=999))
    split = split_examples(rows, recognise_task(rows), seed=3)
    assert "rare" in {item.answer for item in split.train}
    counts = Counter(item.answer for item in split.test)
    assert max(counts.values()) - min(counts.values()) <= 3


def test_clusters_and_groups_never_straddle():
    rows = [
        example(
            f"question {n // 2} about the {n // 2 * 37} thing",
            "x" if n % 2 else "y",
            line=n,
            group=f"g{n % 7}" if n < 14 else None,
        )
        for n in range(60)
    ]
    split = split_examples(rows, TEXT, seed=5)
    parts_by_cluster: dict[int, set[str]] = {}
    for name, part in zip(("train", "valid", "test"), (split.train, split.valid, split.test), strict=True):
        for item in part:
            parts_by_cluster.setdefault(split.cluster_by_id[item.id], set()).add(name)
    assert all(len(parts) == 1 for parts in parts_by_cluster.values())


def test_the_split_depends_on_seed_and_content_not_on_order_or_names():
    rows = list(labelled(30))
    task = recognise_task(rows)
    shuffled = [replace(item, id=f"other {item.id}") for item in random.Random(0).sample(rows, len(rows))]
    first, second, other = (
        split_examples(items, task, seed=seed) for items, seed in ((rows, 1), (shuffled, 1), (rows, 2))
    )
    assert [item.messages for item in first.test] == [item.messages for item in second.test]
    assert [item.messages for item in first.test] != [item.messages for item in other.test]


def test_sizes_can_be_counts_or_fractions_and_training_can_be_capped():
    rows = labelled(40)
    split = split_examples(rows, TEXT, seed=1, sizes=SplitSizes(valid=12, test=0.2, train=30))
    assert [abs(len(part) - want) <= 2 for part, want in zip(ids(split), (30, 12, 24), strict=True)] == [True] * 3
    assert set(split.cluster_by_id) == {name for part in ids(split) for name in part}


def test_twenty_examples_work_and_twelve_are_too_few():
    rows = labelled(7)[:20]
    split = split_examples(rows, recognise_task(rows), seed=1)
    assert all(ids(split))
    with pytest.raises(DataError, match="at least 20 examples, and there are 12"):
        split_examples(rows[:12], recognise_task(rows), seed=1)


def test_too_few_examples_or_one_label_is_refused():
    with pytest.raises(DataError, match="at least 20"):
        split_examples(labelled(3), TEXT, seed=1)
    rows = examples(*((f"question {n} is about {n * n}", "same") for n in range(20)))
    with pytest.raises(DataError, match="every example has the label 'same'"):
        split_examples(rows, recognise_task(rows, TaskKind.LABELS), seed=1)


def test_one_question_asked_over_and_over_is_refused():
    with pytest.raises(DataError, match="nearly the same"):
        split_examples(examples(*(("where is my parcel", f"answer {n}") for n in range(20))), TEXT, seed=1)


@pytest.mark.parametrize("sizes", [SplitSizes(test=200), SplitSizes(valid=1.5), SplitSizes(train=500)])
def test_impossible_sizes_are_refused(sizes: SplitSizes):
    with pytest.raises(ConfigError):
        split_examples(labelled(10), TEXT, seed=1, sizes=sizes)


def test_given_parts_are_drawn_to_the_sizes_asked_for_and_keep_their_labels_shares():
    rows = labelled(40)
    train, valid, test = rows[0::3], rows[1::3], rows[2::3]
    task = recognise_task(rows)
    whole, _ = given_split(train, valid, test, task, seed=1)
    sizes = SplitSizes(train=len(whole.train) // 2, valid=12, test=0.5)
    split, _ = given_split(train, valid, test, task, seed=1, sizes=sizes)
    assert [len(part) for part in ids(split)] == [len(whole.train) // 2, 12, len(test) // 2]
    assert set(split.test) < set(test)
    assert set(split.cluster_by_id) == {name for part in ids(split) for name in part}
    before, after = (Counter(item.answer for item in part) for part in (whole.train, split.train))
    assert [abs(after[label] - count / 2) <= 1 for label, count in before.items()] == [True] * len(before)
    assert split == given_split(train, valid, test, task, seed=1, sizes=sizes)[0]


def test_validation_cut_from_given_training_examples_leaves_as_many_as_asked_for():
    rows = labelled(40)
    split, _ = given_split(rows[:90], None, rows[90:], TEXT, seed=1, sizes=SplitSizes(train=40, valid=10, test=15))
    assert [abs(len(part) - want) <= 2 for part, want in zip(ids(split), (40, 10, 15), strict=True)] == [True] * 3


@pytest.mark.parametrize("sizes", [SplitSizes(test=200), SplitSizes(valid=1.5), SplitSizes(train=500)])
def test_impossible_sizes_of_given_parts_are_refused(sizes: SplitSizes):
    rows = labelled(40)
    with pytest.raises(ConfigError):
        given_split(rows[0::3], rows[1::3], rows[2::3], TEXT, seed=1, sizes=sizes)


def test_given_parts_lose_leaked_training_rows_only():
    train = labelled(12)
    test = (replace(train[0], id="copy"), example("an utterly new question on whales", "refund", name="new"))
    split, findings = given_split(train, None, test, TEXT, seed=1)
    assert {item.id for item in split.test} == {"copy", "new"}
    assert train[0].id not in {item.id for item in (*split.train, *split.valid)}
    assert [(finding.code, finding.severity, finding.action) for finding in findings] == [
        ("leak-exact", Severity.ERROR, Action.LEFT_OUT)
    ]
    assert split.given_by_user
    assert split.valid


def test_a_training_mail_that_quotes_a_test_question_is_left_out():
    train = list(labelled(12))
    asked = example("an utterly new question on whales and on what they sing at night", "yes", name="new")
    quoting = example(
        f"Again, and this time with all that you have asked me for last week: {asked.user_text}. Ann", "no", name="q"
    )
    split, findings = given_split([*train, quoting], None, [asked], TEXT, seed=1)
    assert [(finding.code, finding.action) for finding in findings] == [("leak-quote", Action.LEFT_OUT)]
    assert "word for word, the question of the test example at t.jsonl:1" in findings[0].message
    assert quoting.id not in {item.id for item in (*split.train, *split.valid)}


def test_a_training_conversation_that_tells_a_test_answer_is_left_out():
    train = list(labelled(12))
    asked = example("an utterly new question on whales", "they sing at night", name="new")
    teller = replace(train[0], messages=(*asked.messages, *train[0].messages))
    split, findings = given_split([teller, *train[1:]], None, [asked], TEXT, seed=1)
    assert [(finding.code, finding.action, finding.line) for finding in findings] == [("leak-turn", Action.LEFT_OUT, 1)]
    assert "the question and the answer of the test example at t.jsonl:1" in findings[0].message
    assert teller.id not in {item.id for item in (*split.train, *split.valid)}


def test_a_group_is_never_in_two_given_parts():
    train = [replace(item, group=f"customer {item.source.line}") for item in labelled(12)]
    valid = [replace(example("about a red kite", "refund", name="v1"), group="customer 2")]
    valid.append(replace(example("on the price of salt", "refund", name="v2"), group="customer 99"))
    test = [replace(example("an utterly new question on whales", "refund", name="new"), group="customer 1")]
    test.append(replace(example("who paid for the bridge", "refund", name="other"), group="customer 99"))
    split, findings = given_split(train, valid, test, TEXT, seed=1)
    assert [(f.code, f.action, f.line) for f in findings] == [("leak-group", Action.LEFT_OUT, 1)] * 2 + [
        ("leak-group", Action.LEFT_OUT, 2)
    ]
    assert "is of the group 'customer 1', as the test example at t.jsonl:1 is" in findings[0].message
    assert [item.id for item in split.valid] == ["v1"]
    assert not {item.group for item in split.train} & {"customer 1", "customer 2"}
    assert len(split.train) == 34


def test_what_is_left_without_leaks_may_be_too_little_and_says_why():
    train = [replace(item, group="firm") if item.answer != "refund" else item for item in labelled(12)]
    test = [replace(example("an utterly new question on whales", "refund", name="new"), group="firm")]
    labels = Task(kind=TaskKind.LABELS, reason="", labels=("refund", "address", "lost_parcel"))
    with pytest.raises(DataError, match=r"has the label 'refund'.*, after 24 that share a question or a group"):
        given_split(train, None, test, labels, seed=1)


def test_given_parts_may_use_the_same_ids():
    train, other = labelled(12), examples(("an utterly new question on whales", "refund"))
    split, findings = given_split(train, None, other, TEXT, seed=1)
    assert findings == ()
    names = [item.id for part in (split.train, split.valid, split.test) for item in part]
    assert len(names) == len(set(names)) == len(split.cluster_by_id)
