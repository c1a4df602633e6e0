from dataclasses import replace

from example_builders import example, examples

from fettle.examples.duplicates import cluster_by_id, find_duplicates, find_leaks, find_quoted, find_told
from fettle.records import Example, Message


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


def conversation(*turns: str, line: int, name: str = "") -> Example:
    roles = ["user", "assistant"] * len(turns)
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, turns, strict=False))
    return replace(example("", "", line=line, name=name or None), messages=messages)


TURNS = (
    "Where is my parcel LW1?", "It is at the depot in Leeds.",
    "When will it come to me?", "Tomorrow, before noon.",
    "Can the neighbour take it in?", "Yes, I have noted that.",
)  # fmt: skip


def test_conversations_that_go_on_from_each_other_are_one_cluster():
    rows = [conversation(*TURNS[: 2 * n], line=n) for n in (1, 2, 3)]
    late = conversation("Something else before", "Of course.", *TURNS[2:6], line=4)  # the last turns of a longer one
    other = conversation("How do I change my PIN?", "In the app, under cards.", line=5)
    assert list(cluster_by_id([*rows, late, other]).values()) == [0, 0, 0, 0, 1]


def test_a_held_out_turn_that_a_training_conversation_tells_is_found():
    train = [conversation(*TURNS, line=1), conversation(*TURNS[2:4], line=2)]
    held_out = [
        conversation(*TURNS[:2], line=1, name="told"),
        conversation(*TURNS[4:], line=2, name="asked last in training"),
    ]
    assert [(teller.id, told.id) for teller, told in find_told(train, held_out)] == [("t:1", "told")]


def test_a_mail_that_another_one_quotes_is_in_its_cluster():
    mail = "My parcel with the number 4711 has not come since Monday, where is it?"
    before = "I wrote this a week ago and nobody has answered me at all, so once more:"
    own = example(mail, "soon", name="own")
    quoting = example(f"{before}\n> {mail.upper()}\nYours, Ann Lee, 12 Mill Road", "sorry", name="quoting")
    other = example("Nothing of it", "fine", name="other")
    clusters = cluster_by_id([quoting, other, own])
    assert clusters["quoting"] == clusters["own"] != clusters["other"]
    assert not find_leaks([quoting], [own]), "they are not alike"
    assert find_quoted([quoting, other], [own]) == ((quoting, own),)
    assert find_quoted([own], [quoting]) == (), "what is learned does not hold what is tested"


def test_a_short_question_in_a_longer_one_and_a_form_that_all_hold_are_no_quotes():
    asked = example("Where is my parcel", "here")
    assert find_quoted([example("Hello, where is my parcel, I wait for it?", "there")], [asked]) == ()
    form = "this message was sent to you by the contact form of our site"
    many = [example(f"{form} number {number} of them", "x", name=str(number)) for number in range(40)]
    assert find_quoted(many, [example(form, "y", name="form")]) == ()


def test_what_all_conversations_begin_with_joins_none_of_them():
    hello = ("Hello there, good morning", "How can I help you today?")
    rows = [conversation(*hello, f"question number {n} about {n * n}", f"answer {n}", line=n + 1) for n in range(30)]
    clusters = cluster_by_id([conversation(*hello, line=99, name="hello"), *rows])
    assert sum(cluster == clusters["hello"] for cluster in clusters.values()) == 1


def test_short_words_between_turns_tell_nothing():
    first = conversation("ok thanks", "refund", line=1)
    other = conversation("ok thanks", "refund", "where is the blue lamp I ordered", "parcel", line=2)
    assert len(set(cluster_by_id([first, other]).values())) == 2
