"""What models are told about passages in a study: derived from the training answers."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.records import Example, Task, TaskKind
from fettle.retrieval.fence import ABSTENTION, Wording
from fettle.scoring.abstention import learn_abstentions, usual_abstention
from fettle.study.document_findings import has_own_numbers


def wording_of(task: Task, train: Sequence[Example]) -> Wording:
    """To name passages and to say when they do not answer, where an answer is free text; neither elsewhere.

    Args:
        task: What kind of answer is wanted.
        train: Training examples: the sentence by which they mostly say that there is no answer is the one to be said.
    """
    if task.kind is not TaskKind.TEXT:
        return Wording(abstention=None, asks_for_citations=False)
    abstention = usual_abstention(train, learn_abstentions(train), otherwise=ABSTENTION)
    return Wording(abstention=abstention, asks_for_citations=not has_own_numbers(train))
