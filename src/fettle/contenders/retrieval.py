"""A language model that is shown the passages which a search finds for each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fettle.contenders.language_model import LanguageModel
from fettle.contenders.prompt import with_hint
from fettle.errors import IntegrityError
from fettle.files import sha256_of_json
from fettle.records import Answer, Example, Message
from fettle.retrieval.citations import read_citations
from fettle.retrieval.fence import Wording, shown_with
from fettle.retrieval.question import question_of_example
from fettle.retrieval.records import Found, Passage
from fettle.retrieval.retriever import Retriever

_ASKED = (Message(role="user", content="?"),)
_FOUND = (
    Found(
        passage=Passage(
            id="a#0",
            document_id="a",
            source="a",
            title="A",
            title_path=(),
            position=0,
            page=None,
            text="a\nb",
            num_tokens=2,
        ),
        rank=1,
        score=0.0,
    ),
)
"""Any passage: how it is shown is part of what answers depend on."""


class RememberedSearch:
    """A search that is made once for each question of a run.

    A prompt is put together several times on the way to one answer; the search is made the first time, so that it counts among the
    seconds of its request once. Each arm has its own, and a new run forgets what the one before has found.

    Args:
        retriever: What searches.
    """

    def __init__(self, retriever: Retriever) -> None:
        self.retriever = retriever
        self._found: dict[str, tuple[Found, ...]] = {}

    def begin(self, questions: Sequence[str]) -> None:
        """Forget everything, and search for these."""
        self._found = {}
        self.look_up(questions)

    def look_up(self, questions: Sequence[str]) -> None:
        """Search for those of these that were not searched for yet, all at once."""
        unseen = [question for question in dict.fromkeys(questions) if question not in self._found]
        if unseen:
            self._found |= dict(zip(unseen, self.retriever.search_all(unseen), strict=True))

    def found(self, question: str) -> tuple[Found, ...]:
        """All that the search finds for a question."""
        if question not in self._found:
            self._found[question] = self.retriever.search(question)
        return self._found[question]

    def showing(self, question: str, found: Sequence[Found]) -> RememberedSearch:
        """One that has found these for a question: training leaves some out, and puts others in."""
        other = RememberedSearch(self.retriever)
        other._found[question] = tuple(found)
        return other


@dataclass(frozen=True, slots=True)
class RetrievedPassages:
    """A prompt style: the passages found for what is asked, before it; see `retrieval.fence`."""

    search: RememberedSearch
    num_passages: int = 5
    """Shown at most, of those found."""
    wording: Wording = field(default_factory=Wording)
    hint: str | None = None

    def messages(self, example: Example) -> tuple[Message, ...]:
        """The conversation to be answered, with what is found for it."""
        return shown_with(with_hint(example.prompt, self.hint), self.found(example), self.wording)

    def found(self, example: Example) -> tuple[Found, ...]:
        """The passages that are shown, in rank order."""
        return self.candidates(example)[: self.num_passages]

    def candidates(self, example: Example) -> tuple[Found, ...]:
        """All that the search finds, those that are not shown included."""
        return self.search.found(question_of_example(example))

    def shown(self, example: Example) -> tuple[Example, ...]:  # noqa: ARG002 (as other styles have it)
        """No training examples."""
        return ()

    def shorter(self) -> RetrievedPassages | None:
        """Without the last passage; where there is none, without the hint."""
        if self.num_passages:
            return replace(self, num_passages=self.num_passages - 1)
        return replace(self, hint=None) if self.hint else None

    def describe(self) -> str:
        """The style in words."""
        return (
            f"the {self.num_passages} passages found for the message in the prompt ({self.search.retriever.describe()})"
            + (", with a hint derived from the training examples" if self.hint else "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageReader:
    """A language model that answers from passages, as a contender: its answers say what they were shown and what they name."""

    model: LanguageModel
    """With a style of `RetrievedPassages`."""

    def __post_init__(self) -> None:
        """See that it is shown passages.

        Raises:
            IntegrityError: It is not.
        """
        _passages_of(self.model.style)

    @property
    def name(self) -> str:
        """As the model's."""
        return self.model.name

    @property
    def title(self) -> str:
        """As the model's."""
        return self.model.title

    @property
    def is_fine_tuned(self) -> bool:
        """As the model."""
        return self.model.is_fine_tuned

    @property
    def style(self) -> RetrievedPassages:
        """How it is shown passages, where there is room for all of them."""
        return _passages_of(self.model.style)

    def describe(self) -> str:
        """How it answers, in words."""
        return self.model.describe()

    def told(self, example: Example) -> tuple[Message, ...]:
        """The conversation with the passages."""
        return self.model.told(example)

    def is_shortened(self, example: Example) -> bool:
        """Whether passages or the hint were left out because the prompt was too long for the model."""
        return self.model.is_shortened(example)

    def identity(self) -> str:
        """Everything its answers depend on but the examples."""
        style = self.style
        told = [message.content for message in shown_with(_ASKED, _FOUND, style.wording)]
        return sha256_of_json([self.model.identity(), style.search.retriever.identity(), style.num_passages, told])

    def batches(self, examples: Sequence[Example]) -> tuple[tuple[int, ...], ...]:
        """As the engine divides the prompts. A run begins here: its searches are made, and earlier ones are forgotten."""
        self.style.search.begin([question_of_example(example) for example in examples])
        return self.model.batches(examples)

    def answer(self, examples: Sequence[Example]) -> tuple[Answer, ...]:
        """One answer for each example, without the numbers of passages at its end."""
        self.style.search.look_up([question_of_example(example) for example in examples])
        answers = self.model.answer(examples)
        return tuple(self._read(example, answer) for example, answer in zip(examples, answers, strict=True))

    def found(self, example: Example) -> tuple[Found, ...]:
        """The passages in the prompt of an example: those for which there is room."""
        style, _ = self.model.fitting(example)
        return _passages_of(style).found(example)

    def _read(self, example: Example, answer: Answer) -> Answer:
        passages = tuple(one.passage.id for one in self.found(example))
        answer = replace(answer, passages=passages)
        if answer.has_failed or not self.style.wording.asks_for_citations:
            return answer
        cited = read_citations(answer.text)
        valid = [number for number in cited.numbers if 1 <= number <= len(passages)]
        return replace(
            answer,
            text=cited.text,
            cited=tuple(passages[number - 1] for number in valid),
            num_false_citations=len(cited.numbers) - len(valid),
        )


def _passages_of(style: object) -> RetrievedPassages:
    if not isinstance(style, RetrievedPassages):
        raise IntegrityError(f"a contender that answers from passages has a prompt of {type(style).__name__}")
    return style
