from dataclasses import replace

from example_builders import example, examples

from fettle.examples.duplicates import cluster_by_id, find_duplicates, find_leaks
from fettle.records import Message


def test_exact_duplicates_ignore_case_space_and_punctuation():
    pairs = find_duplicates(
        examples(("Where is my card?", "a"), ("something else entirely", "b"), ("where IS  my card", "c"))
    )
    assert [(pair.first.source.line, pair.second.source.line, pair.is_exact) for pair in pairs] == [(1, 3, True)]


def test_near_duplicates_ignore_courtesies():
    first, second = (
        "I want to know how to activate my new card",
        "Hi team, I want to know how to activate my card. Thanks!",
    )
    (pair,) = find_duplicates(examples((first, "a"), (second, "a")))
    assert not pair.is_exact
    assert 0.72 <= pair.similarity < 1


def test_different_questions_of_one_kind_are_no_duplicates():
    texts = ("Can I get a refund for my ticket?", "When will my new card arrive?", "How do I change my PIN?")
    assert find_duplicates(examples(*((text, "a") for text in texts))) == ()


def test_clusters_join_through_chains_and_groups():
    same = [example("one two three four five", "a", line=1), example("One, two three four five!", "b", line=2)]
    group = [
        example("completely different words here", "a", line=3, group="thread 9"),
        example("nothing in common at all", "a", line=4, group="thread 9"),
    ]
    clusters = cluster_by_id([*same, *group])
    assert list(clusters.values()) == [0, 0, 1, 1]


def test_clusters_do_not_depend_on_row_order():
    rows = examples(*((f"message number {n // 3} about topic {n // 3 * 17}", "a") for n in range(30)))

    def partition(items):
        parts: dict[int, set[str]] = {}
        for name, cluster in cluster_by_id(items).items():
            parts.setdefault(cluster, set()).add(name)
        return {frozenset(part) for part in parts.values()}

    assert partition(rows) == partition(rows[::-1])


def test_leaks_are_all_pairs_across_the_two_parts():
    train = examples(("where is my card", "a"), ("where is my card?", "a"), ("unrelated question about rates", "b"))
    test = tuple(replace(item, id=f"test {item.id}") for item in examples(("Where is my card", "a")))
    leaks = find_leaks(train, test)
    assert [(leak.first.id, leak.second.id) for leak in leaks] == [("t:1", "test t:1"), ("t:2", "test t:1")]


def test_conversations_that_end_alike_are_not_duplicates():
    def conversation(line: int, opening: str):
        item = example("yes please", "a", line=line)
        history = (Message(role="user", content=opening), Message(role="assistant", content="Shall I?"))
        return replace(item, messages=(*history, *item.messages))

    pair = [conversation(1, "cancel my order for the garden chairs"), conversation(2, "book a table in Lyon tonight")]
    assert find_duplicates(pair) == ()


def test_texts_without_words_are_compared_as_they_are():
    assert find_duplicates(examples(("👍", "a"), ("👎", "b"))) == ()
    assert len(find_duplicates(examples(("👍", "a"), ("👍", "b")))) == 1


def test_no_examples_give_no_clusters():
    assert cluster_by_id([]) == {}
