from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.local import LocalEngine
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.raft import AS_ASKED, PassageCase, RaftExamples, RaftSettings, raft_examples
from fettle.contenders.retrieval import PassageReader, RememberedSearch, RetrievedPassages
from fettle.errors import ConfigError
from fettle.records import Example, Message, Task, TaskKind, ToolCall
from fettle.retrieval.citations import read_citations
from fettle.retrieval.fence import ABSTENTION, Wording, shown_with
from fettle.retrieval.records import Passage
from fettle.scoring.abstention import Abstentions
from found_passages import ListedLookup, ListedRetriever, asked, found, passage

TEXT = Task(kind=TaskKind.TEXT, reason="")
NUM_PASSAGES = 3
BRIDGES = {
    f"bridge {number}": passage(f"{number}.md", f"Bridge {number} was opened in {1900 + number}.")
    for number in range(40)
}
ALWAYS = RaftSettings(unanswered_share=0, put_in_probability=1)
NEVER = RaftSettings(unanswered_share=1, put_in_probability=0)


def question(number: int) -> Example:
    return asked(f"bridge {number}", str(1900 + number), documents=[f"{number}.md"], system="Be brief.")


def distractors(number: int, count: int = 5) -> list[Passage]:
    return [BRIDGES[f"bridge {(number + step) % 40}"] for step in range(1, count + 1)]


def rank_of_right(number: int) -> int:
    """Every fourth question is one whose passage search does not find."""
    return number % 4


def everything(number: int) -> list[Passage]:
    others = distractors(number)
    rank = rank_of_right(number)
    return others if rank == NUM_PASSAGES else [*others[:rank], BRIDGES[f"bridge {number}"], *others[rank:]]


def reader(
    passages: dict[str, list[Passage]] | None = None, *, wording: Wording | None = None, max_tokens: int | None = None
) -> PassageReader:
    retriever = ListedRetriever(passages or {f"bridge {number}": everything(number) for number in range(40)})
    style = RetrievedPassages(RememberedSearch(retriever), NUM_PASSAGES, wording or Wording())
    return PassageReader(
        model=LanguageModel(
            name="tuned_retrieval",
            title="Fine-tuned, with retrieval",
            engine=CountingEngine(max_tokens),
            style=style,
            task=TEXT,
            options=GenerationOptions(max_new_tokens=8),
        )
    )


class CountingEngine:
    """Counts words, and answers nothing."""

    name = "counting"

    def __init__(self, max_tokens: int | None) -> None:
        self.max_tokens = max_tokens

    def count_prompt_tokens(self, prompt: Any) -> int:
        return sum(len(message.content.split()) for message in prompt.messages)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a training example was made with {name}")


def made(
    examples: Sequence[Example],
    settings: RaftSettings,
    arm: PassageReader | None = None,
    lookup: ListedLookup | None = None,
) -> RaftExamples:
    return raft_examples(
        examples,
        arm or reader(),
        lookup=lookup or ListedLookup(*BRIDGES.values()),
        abstentions=Abstentions(),
        settings=settings,
    )


ALL = [question(number) for number in range(40)]


def test_a_right_passage_is_shown_in_its_rank_and_named() -> None:
    rows = made(ALL, ALWAYS)
    for number, (row, case, shown) in enumerate(zip(rows.examples, rows.cases, rows.shown, strict=True)):
        right = BRIDGES[f"bridge {number}"].id
        cited = read_citations(row.answer)
        assert cited.text == str(1900 + number)
        assert [shown[at - 1] for at in cited.numbers] == [right]
        others = [one.id for one in everything(number) if one.id != right]
        assert [one for one in shown if one != right] == others[: NUM_PASSAGES - 1]
        if rank_of_right(number) < NUM_PASSAGES:
            assert case is PassageCase.KEPT
            assert shown[rank_of_right(number)] == right
        else:
            assert case is PassageCase.PUT_IN
    put_in = [len(shown) - shown[::-1].index(f"{n}.md#0") for n, shown in enumerate(rows.shown) if n % 4 == 3]
    assert len(set(put_in)) > 1  # at places that differ


def test_without_its_passage_an_answer_says_that_there_is_none() -> None:
    rows = made(ALL, NEVER)
    assert {row.answer for row in rows.examples} == {ABSTENTION}
    assert set(rows.cases) == {PassageCase.LEFT_OUT, PassageCase.NOT_FOUND}
    for number, shown in enumerate(rows.shown):
        assert f"{number}.md#0" not in shown
        assert len(shown) == NUM_PASSAGES


def test_passages_that_hold_the_answer_all_the_same_are_left_out_too() -> None:
    again = passage("copy.md", "Opened: 1905.")
    second = passage("5.md", "It is painted red.", position=1)
    arm = reader({"bridge 5": [second, again, BRIDGES["bridge 5"], *distractors(5)]})
    rows = made([question(5)], NEVER, arm, ListedLookup(BRIDGES["bridge 5"], second, again))
    assert rows.cases == (PassageCase.LEFT_OUT,)
    assert rows.shown == (tuple(one.id for one in distractors(5)[:3]),)


def test_what_another_passage_says_as_well_is_no_reason_to_say_that_nothing_does() -> None:
    again = passage("copy.md", "Opened: 1905.")
    rows = made([question(5)], NEVER, reader({"bridge 5": [again, *distractors(5)]}))
    assert rows.cases == (PassageCase.UNKNOWN,)
    assert rows.examples[0].answer == "1905"


def test_of_a_long_document_the_passage_that_answers_counts() -> None:
    parts = [
        passage("5.md", text, position=place)
        for place, text in enumerate(["Painted red.", "Opened in 1905.", "Of steel."])
    ]
    rows = made([question(5)], ALWAYS, reader({"bridge 5": [parts[0], parts[1]]}), ListedLookup(*parts))
    assert rows.examples[0].answer == "1905 [2]"
    rows = made([question(5)], NEVER, reader({"bridge 5": [parts[0], *distractors(5)]}), ListedLookup(*parts))
    assert rows.cases == (PassageCase.NOT_FOUND,)
    long = asked("bridge 5", "It was opened in 1905, and then painted.", documents=["5.md"])
    rows = made([long], ALWAYS, reader({"bridge 5": [parts[0], parts[1]]}), ListedLookup(*parts))
    assert rows.examples[0].answer == "It was opened in 1905, and then painted. [2]"


def test_where_no_document_is_named_one_passage_alone_must_hold_the_answer() -> None:
    unnamed = replace(question(5), document_ids=None)
    rows = made([unnamed], ALWAYS)
    assert (rows.examples[0].answer, rows.cases) == ("1905 [2]", (PassageCase.KEPT,))
    twice = reader({"bridge 5": [passage("copy.md", "Opened: 1905."), BRIDGES["bridge 5"]]})
    rows = made([unnamed], NEVER, twice)
    assert (rows.examples[0].answer, rows.cases) == ("1905", (PassageCase.UNKNOWN,))
    sentence = asked("bridge 5", "Bridge number 5 is one that was opened in 1905, a long time ago.")
    rows = made([sentence], ALWAYS)
    assert rows.cases == (PassageCase.UNKNOWN,)  # too long to be looked for, and not clearly supported
    supported = asked("bridge 5", "Bridge 5 was opened in 1905, and 1905 it was that it was opened in.")
    rows = made([supported], ALWAYS)
    assert rows.examples[0].answer.endswith("[2]")


@pytest.mark.parametrize("documents", [[], None, ["5.md"]])
def test_questions_that_no_document_answers_keep_their_distractors(documents: list[str] | None) -> None:
    unanswered = asked("bridge 5", ABSTENTION, documents=documents)
    for settings in (ALWAYS, NEVER):
        rows = made([unanswered], settings)
        assert rows.cases == (PassageCase.UNANSWERED,)
        assert rows.examples[0].answer == ABSTENTION
        assert rows.shown[0] == tuple(one.id for one in everything(5)[:NUM_PASSAGES])


def test_shares_are_as_asked_and_the_same_every_time() -> None:
    many = [replace(question(number % 40), id=f"e{number}") for number in range(400)]
    settings = RaftSettings(unanswered_share=0.36, put_in_probability=0.4, seed=3)
    rows = made(many, settings)
    counts = rows.counts
    num_found = counts[PassageCase.KEPT] + counts[PassageCase.LEFT_OUT]
    assert num_found == 300
    assert counts[PassageCase.LEFT_OUT] + counts[PassageCase.NOT_FOUND] == 0.36 * 400
    assert counts[PassageCase.PUT_IN] / 100 == pytest.approx(0.4, abs=0.15)
    assert rows == made(many, settings)
    assert rows.cases[::-1] == made(many[::-1], settings).cases  # whatever the others are
    assert rows.cases != made(many, replace(settings, seed=4)).cases
    assert f"{counts[PassageCase.KEPT]}: the right passage is found, and shown" in rows.describe()


def test_where_enough_is_unanswered_nothing_is_left_out() -> None:
    unanswered = [asked(f"bridge {number}", ABSTENTION, id_=f"u{number}") for number in range(10)]
    few = made([*ALL, *unanswered], RaftSettings(unanswered_share=0.2, put_in_probability=1)).counts
    assert few[PassageCase.KEPT] == 30
    assert few[PassageCase.LEFT_OUT] == 0
    many = made([*ALL, *unanswered], RaftSettings(unanswered_share=0.4, put_in_probability=1)).counts
    assert many[PassageCase.LEFT_OUT] == 10  # of 50 examples 20 are to have no answer


def test_what_is_not_known_makes_nobody_abstain_more() -> None:
    """The share is of the examples of which it is known: else all of a few known ones would be left out, and none cited."""
    unknown = [
        asked(f"why {number}", "Because of a reason that no passage gives.", id_=f"w{number}") for number in range(160)
    ]
    passages = {f"bridge {number}": everything(number) for number in range(40)}
    arm = reader(passages | {f"why {number}": distractors(number % 40) for number in range(160)})
    counts = made([*ALL, *unknown], RaftSettings(unanswered_share=0.2, put_in_probability=1), arm).counts
    assert counts[PassageCase.UNKNOWN] == 160
    assert counts[PassageCase.LEFT_OUT] == 8
    assert counts[PassageCase.KEPT] == 22


def test_a_long_answer_that_another_document_gives_too_is_not_shown_where_none_is_to_be() -> None:
    words = "Bring the parcel to a branch, show your passport there and sign the green form for the driver at the desk."
    example = asked("bridge 5", words, documents=["5.md"])
    right, other = passage("5.md", words), passage("memo.md", f"In short. {words}")
    arm = reader({"bridge 5": [other, right, *distractors(5)]})
    rows = made([example], NEVER, arm, ListedLookup(right))
    assert rows.cases == (PassageCase.LEFT_OUT,)
    assert "memo.md#0" not in rows.shown[0]
    missed = reader({"bridge 5": [other, *distractors(5)]})
    rows = made([example], NEVER, missed, ListedLookup(right))
    assert (rows.cases, rows.examples[0].answer) == ((PassageCase.UNKNOWN,), words)


def test_a_copy_of_the_right_passage_is_the_right_one() -> None:
    right, copy = (replace(BRIDGES["bridge 5"], id=f"{id_}#0", document_id=id_) for id_ in ("5.md", "old/5.md"))
    arm = reader({"bridge 5": [*distractors(5)[:1], copy, *distractors(5)[1:]]})
    rows = made([question(5)], ALWAYS, arm, ListedLookup(right))
    assert (rows.cases, rows.examples[0].answer) == ((PassageCase.KEPT,), "1905 [2]")
    rows = made([question(5)], NEVER, arm, ListedLookup(right))
    assert rows.cases == (PassageCase.LEFT_OUT,)
    assert copy.id not in rows.shown[0]


def test_calls_of_functions_name_no_passage_and_are_not_replaced() -> None:
    call = Message(role="assistant", content="", tool_calls=(ToolCall(id="c", name="open", arguments="{}"),))
    example = replace(question(5), messages=(*question(5).messages[:-1], call))
    for settings in (ALWAYS, NEVER):
        rows = made([example], settings)
        assert (rows.cases, rows.examples[0].messages[-1]) == ((PassageCase.UNKNOWN,), call)


def test_prompts_are_made_as_the_arm_is_asked() -> None:
    arm = reader()
    rows = made(ALL, AS_ASKED, arm)
    for example, row in zip(ALL, rows.examples, strict=True):
        assert row.prompt == arm.told(example)
        assert row.id == example.id
    left_out = made(ALL[:1], NEVER, arm)
    assert left_out.examples[0].prompt == shown_with(ALL[0].prompt, found(*distractors(0)[:3]), Wording())
    assert arm.told(ALL[0]) == shown_with(
        ALL[0].prompt, found(*everything(0)[:3]), Wording()
    )  # it still finds what it found


def test_search_never_sees_an_answer_and_no_other_examples_answer_is_learned() -> None:
    arm = reader()
    retriever = arm.style.search.retriever
    rows = made(ALL, RaftSettings())
    made(ALL, RaftSettings(), arm)
    assert isinstance(retriever, ListedRetriever)
    assert Counter(retriever.searched) == Counter(example.input_text for example in ALL)
    for example, row in zip(ALL, rows.examples, strict=True):
        assert read_citations(row.answer).text in (example.answer, ABSTENTION)


def test_a_passage_that_does_not_fit_the_prompt_is_not_named() -> None:
    whole = reader()
    num_words = sum(len(message.content.split()) for message in replace(whole.style, num_passages=1).messages(ALL[1]))
    arm = reader(max_tokens=num_words + 8)
    rows = made([ALL[1], ALL[0]], ALWAYS, arm)
    assert [len(shown) for shown in rows.shown] == [1, 1]
    assert rows.cases == (PassageCase.NOT_FOUND, PassageCase.KEPT)
    assert [row.answer for row in rows.examples] == [ABSTENTION, "1900 [1]"]


def test_where_answers_are_labels_nothing_is_left_out_or_named() -> None:
    rows = made(ALL, NEVER, reader(wording=Wording(abstention=None, asks_for_citations=False)))
    assert [row.answer for row in rows.examples] == [example.answer for example in ALL]
    assert set(rows.cases) == {PassageCase.KEPT, PassageCase.UNKNOWN}


def test_earlier_answers_are_not_learned() -> None:
    turns = (Message(role="user", content="Hello"), Message(role="assistant", content="Good day."))
    longer = replace(ALL[0], messages=(*turns, *ALL[0].messages[1:]))
    rows = made([longer], ALWAYS, reader({"bridge 0\nHello": everything(0)}))
    assert [message.weight for message in rows.examples[0].messages if message.role == "assistant"] == [0, None]


@pytest.mark.parametrize("settings", [{"unanswered_share": 1.5}, {"put_in_probability": -0.1}])
def test_what_is_no_share_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        RaftSettings(**settings)


def test_rows_begin_with_the_tokens_that_the_model_is_asked_with(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("qwen3")
    arm = reader()
    arm = PassageReader(model=replace(arm.model, engine=LocalEngine(loaded)))
    rows = made(ALL[:6], AS_ASKED, arm)
    for example, row in zip(ALL[:6], loaded.renderer.rows_of(rows.examples), strict=True):
        prompt = loaded.renderer.prompt_tokens(arm.told(example))
        assert row.token_ids[: len(prompt)] == prompt
        assert not any(row.is_trained[: len(prompt)])
        assert all(row.is_trained[len(prompt) :])
