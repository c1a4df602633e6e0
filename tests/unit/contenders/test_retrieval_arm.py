from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.local import LocalEngine
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.prompt import OwnPrompt
from fettle.contenders.retrieval import PassageReader, RememberedSearch, RetrievedPassages
from fettle.errors import IntegrityError
from fettle.files import append_json_lines
from fettle.progress import SilentListener
from fettle.records import Answer, FinishReason, Message, Prompt, Task, TaskKind, Usage
from fettle.retrieval.fence import Wording
from fettle.study.answers import answer_split, measure_latency
from found_passages import ListedRetriever, asked, passage

TEXT = Task(kind=TaskKind.TEXT, reason="")
BRIDGE = passage("bridge.md", "The bridge was opened in 1931.", title="Bridge")
TOWER = passage("tower.md", "The tower is 90 metres high.", title="Tower")
PARK = passage("park.md", "The park is open at night.", title="Park")
OPENED = asked("When was the bridge opened?", "1931", documents=["bridge.md"])
HIGH = asked("How high is the tower?", "90 metres", documents=["tower.md"])
PASSAGES = {"When was the bridge opened?": [BRIDGE, PARK, TOWER], "How high is the tower?": [PARK, TOWER]}


@dataclass
class SayingEngine:
    """Says what it is told to, and keeps what it was asked."""

    says: str
    max_tokens: int | None = None
    name = "saying"

    def __post_init__(self) -> None:
        self.prompts: list[Prompt] = []

    def count_prompt_tokens(self, prompt: Prompt) -> int:
        return sum(len(message.content.split()) for message in prompt.messages)

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        return (tuple(range(len(prompts))),)

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        self.prompts += prompts
        usage = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.0)
        reason = FinishReason.STOP if self.says else FinishReason.ERROR
        return tuple(
            Answer(example_id=one.example_id, text=self.says, finish_reason=reason, usage=usage) for one in prompts
        )

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        raise NotImplementedError

    def choose_each(self, prompts: Sequence[Prompt], choices_of_each: Sequence[Sequence[str]]) -> tuple[Answer, ...]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def arm(
    says: str = "1931 [1].",
    *,
    retriever: ListedRetriever | None = None,
    max_tokens: int | None = None,
    wording: Wording | None = None,
    num_passages: int = 2,
    hint: str | None = None,
) -> tuple[PassageReader, ListedRetriever, SayingEngine]:
    retriever = retriever or ListedRetriever(PASSAGES)
    engine = SayingEngine(says, max_tokens)
    style = RetrievedPassages(RememberedSearch(retriever), num_passages, wording or Wording(), hint)
    options = GenerationOptions(max_new_tokens=8)
    model = LanguageModel(name="retrieval", title="Retrieval", engine=engine, style=style, task=TEXT, options=options)
    return PassageReader(model=model), retriever, engine


def test_an_answer_says_what_it_was_shown_and_what_it_names() -> None:
    reader, _, engine = arm("1931 [1].")
    [answer] = reader.answer([OPENED])
    assert answer.text == "1931."
    assert answer.passages == ("bridge.md#0", "park.md#0")
    assert answer.cited == ("bridge.md#0",)
    assert answer.num_false_citations == 0
    assert engine.prompts[0].messages == reader.told(OPENED)


def test_numbers_that_no_passage_has_are_dropped_and_counted() -> None:
    [answer] = arm("1931 [2][3][0]")[0].answer([OPENED])
    assert (answer.text, answer.cited, answer.num_false_citations) == ("1931", ("park.md#0",), 2)


def test_without_citations_brackets_are_text() -> None:
    reader, _, _ = arm("1931 [1]", wording=Wording(asks_for_citations=False))
    [answer] = reader.answer([OPENED])
    assert (answer.text, answer.cited) == ("1931 [1]", ())
    assert answer.passages == ("bridge.md#0", "park.md#0")


def test_a_failed_request_names_nothing() -> None:
    [answer] = arm("")[0].answer([OPENED])
    assert answer.has_failed
    assert answer.cited == ()


def test_the_prompt_depends_on_nothing_but_the_question() -> None:
    reader, retriever, _ = arm()
    other = replace(OPENED, messages=(OPENED.messages[0], Message(role="assistant", content="secret")))
    other = replace(other, document_ids=("secret.md",), references=("secret",), id="other")
    assert reader.told(other) == reader.told(OPENED)
    reader.answer([other, OPENED])
    assert set(retriever.searched) == {"When was the bridge opened?"}


def test_a_prompt_that_is_too_long_loses_its_last_passages_and_then_the_hint() -> None:
    whole, _, _ = arm(hint="Say it in a word.")
    num_words = [
        sum(len(message.content.split()) for message in replace(whole.style, num_passages=number).messages(OPENED))
        for number in range(3)
    ]
    assert num_words == sorted(num_words)
    for number in range(3):
        reader, _, _ = arm(max_tokens=num_words[number] + 8, hint="Say it in a word.")
        [answer] = reader.answer([OPENED])
        assert answer.passages == ("bridge.md#0", "park.md#0")[:number]
        assert reader.is_shortened(OPENED) == (number < 2)
        assert "in a word" in reader.told(OPENED)[0].content
    reader, _, _ = arm(max_tokens=8, hint="Say it in a word.")
    assert "in a word" not in reader.told(OPENED)[0].content
    assert reader.told(OPENED)[-1].content.endswith(OPENED.prompt[-1].content)


def test_a_run_searches_once_for_each_question_and_another_run_again() -> None:
    reader, retriever, _ = arm()
    examples = [OPENED, HIGH, replace(OPENED, id="the same again")]
    for times in (1, 2):
        [batch] = reader.batches(examples)
        reader.answer([examples[index] for index in batch])
        reader.told(OPENED)
        assert retriever.searched == ["When was the bridge opened?", "How high is the tower?"] * times


def test_latency_and_a_batch_run_each_make_their_own_searches(tmp_path: Path) -> None:
    reader, retriever, _ = arm()
    measure_latency(reader, [OPENED], warm_up=HIGH, file=tmp_path / "latency.jsonl")
    assert retriever.searched == ["How high is the tower?", "When was the bridge opened?"]
    answers = answer_split(reader, [OPENED, HIGH], file=tmp_path / "a.jsonl", what="test", listener=SilentListener())
    assert retriever.searched[2:] == ["When was the bridge opened?", "How high is the tower?"]
    again = answer_split(reader, [OPENED, HIGH], file=tmp_path / "a.jsonl", what="test", listener=SilentListener())
    assert again == answers
    assert answers[0].cited == ("bridge.md#0",)


def test_answers_of_another_index_or_wording_are_never_reused() -> None:
    identities = {
        arm()[0].identity(),
        arm(retriever=ListedRetriever(PASSAGES, name="changed"))[0].identity(),
        arm(wording=Wording(abstention="Das steht nicht da."))[0].identity(),
        arm(num_passages=1)[0].identity(),
        arm(hint="Say it in a word.")[0].identity(),
    }
    assert len(identities) == 5
    assert arm()[0].identity() == arm()[0].identity()


def test_it_is_told_as_what_it_is() -> None:
    reader, _, _ = arm()
    assert "2 passages" in reader.describe()
    assert "listed" in reader.describe()
    assert (reader.name, reader.title, reader.is_fine_tuned) == ("retrieval", "Retrieval", False)
    assert reader.style.shown(OPENED) == ()
    with pytest.raises(IntegrityError, match="OwnPrompt"):
        PassageReader(model=replace(reader.model, style=OwnPrompt()))


def test_answers_that_an_earlier_version_kept_are_read(tmp_path: Path) -> None:
    reader, _, _ = arm()
    file = tmp_path / "a.jsonl"
    answers = answer_split(reader, [OPENED], file=file, what="test", listener=SilentListener())
    first, *_ = file.read_text().splitlines()
    row = {
        key: value
        for key, value in asdict(answers[0]).items()
        if key not in ("passages", "cited", "num_false_citations")
    }
    file.write_text(first + "\n")
    append_json_lines(file, [row])
    [kept] = answer_split(reader, [OPENED], file=file, what="test", listener=SilentListener())
    assert kept == replace(answers[0], passages=(), cited=())


def test_a_real_model_is_prompted_with_the_passages(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")
    reader, _, _ = arm()
    model = replace(reader.model, engine=LocalEngine(loaded))
    [answer] = PassageReader(model=model).answer([OPENED])
    assert answer.usage.prompt_tokens == len(loaded.renderer.prompt_tokens(reader.told(OPENED)))
    assert answer.passages == ("bridge.md#0", "park.md#0")
